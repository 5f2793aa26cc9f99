// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/folder.h"

#include <fmt/format.h>

#include <optional>

#include "base/file.h"
#include "text/tokenizer/loaders.h"

namespace nibble::text {
namespace {

using Read = Result<TokenizerSpec> (*)(const std::filesystem::path& file, const TokenizerSettings& settings);

Result<TokenizerSpec> read_json_tokenizer(const std::filesystem::path& file, const TokenizerSettings&) {
  TRY_ASSIGN(const std::string text, read_text_file(file));
  return read_tokenizer_json(text);
}

// Two formats share the name tokenizer.model.
Result<TokenizerSpec> read_model_file(const std::filesystem::path& file, const TokenizerSettings& settings) {
  TRY_ASSIGN(const std::string bytes, read_text_file(file));
  if (looks_like_tiktoken(bytes)) return read_tiktoken(bytes, settings);
  TokenizerSettings named = settings;
  named.is_spiece_file = file.filename() == "spiece.model";
  return read_sentencepiece_model(bytes, named);
}

Result<TokenizerSpec> read_gpt2(const std::filesystem::path& file, const TokenizerSettings& settings) {
  TRY_ASSIGN(const std::string vocabulary, read_text_file(file));
  TRY_ASSIGN(const std::string merges, read_text_file(file.parent_path() / "merges.txt"));
  return read_gpt2_files(vocabulary, merges, settings);
}

Result<TokenizerSpec> read_bert(const std::filesystem::path& file, const TokenizerSettings& settings) {
  TRY_ASSIGN(const std::string text, read_text_file(file));
  return read_bert_vocabulary(text, settings);
}

Result<TokenizerSpec> read_ranks(const std::filesystem::path& file, const TokenizerSettings& settings) {
  TRY_ASSIGN(const std::string text, read_text_file(file));
  return read_tiktoken(text, settings);
}

// In the order of preference: tokenizer.json says everything, the others leave something to their family.
struct Format {
  std::string_view file;  // "*.x": the first such file by name
  std::string_view needs;
  Read read;
};
constexpr Format kFormats[] = {
    {"tokenizer.json", "", read_json_tokenizer},
    {"tokenizer.model", "", read_model_file},
    {"spiece.model", "", read_model_file},
    {"vocab.json", "merges.txt", read_gpt2},
    {"vocab.txt", "", read_bert},
    {"*.tiktoken", "", read_ranks},
};

std::optional<std::filesystem::path> find_file(const std::filesystem::path& folder, std::string_view name) {
  std::error_code ignored;
  if (!name.starts_with('*')) {
    const std::filesystem::path file = folder / name;
    return std::filesystem::is_regular_file(file, ignored) ? std::optional(file) : std::nullopt;
  }
  std::optional<std::filesystem::path> first;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    const bool fits = entry.path().extension() == name.substr(1) && entry.is_regular_file(ignored);
    if (fits && (!first || entry.path() < *first)) first = entry.path();
  }
  return first;
}

TokenId id_of_role(const TokenizerSpec& spec, const TokenizerSettings& settings, const std::string& role) {
  const auto found = settings.special_tokens.find(role);
  if (found == settings.special_tokens.end()) return kNoToken;
  if (const TokenId id = spec.model.vocabulary.find(found->second.content); id != kNoToken) return id;
  for (const AddedToken& token : spec.added_tokens) {
    if (token.content == found->second.content) return token.id;
  }
  return kNoToken;
}

void apply_roles(const TokenizerSettings& settings, TokenizerSpec& spec) {
  const TokenId bos = id_of_role(spec, settings, "bos_token"), eos = id_of_role(spec, settings, "eos_token");
  if (bos != kNoToken) spec.bos = bos;
  if (eos != kNoToken) spec.eos = eos;
  if (!settings.chat_template.empty()) spec.chat_template = settings.chat_template;
}

}  // namespace

Result<TokenizerSpec> read_tokenizer_folder(const std::filesystem::path& folder) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored)) {
    return no_input(fmt::format("{} is not a folder", folder.string()));
  }
  TRY_ASSIGN(const TokenizerSettings settings, read_tokenizer_settings(folder).at(folder.string()));
  std::string known;
  for (const Format& format : kFormats) {
    known += (known.empty() ? "" : ", ") + std::string(format.file);
    if (!format.needs.empty()) known += " with " + std::string(format.needs);
    const std::optional<std::filesystem::path> file = find_file(folder, format.file);
    if (!file || (!format.needs.empty() && !find_file(folder, format.needs))) continue;
    TRY_ASSIGN(TokenizerSpec spec, format.read(*file, settings).at(fmt::format("file {}", file->string())));
    apply_roles(settings, spec);
    return spec;
  }
  return no_input(fmt::format("{} holds no tokenizer", folder.string()),
                  "one of these files is needed: " + known);
}

}  // namespace nibble::text
