// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/folder.h"

#include <fmt/format.h>

#include "base/file.h"
#include "text/tokenizer/loaders.h"

namespace nibble::text {
namespace {

Result<TokenizerSpec> read_json_tokenizer(const std::filesystem::path& file) {
  TRY_ASSIGN(const std::string text, read_text_file(file));
  return read_tokenizer_json(text).at(fmt::format("file {}", file.string()));
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
  if (std::filesystem::is_regular_file(folder / "tokenizer.json", ignored)) {
    TRY_ASSIGN(TokenizerSpec spec, read_json_tokenizer(folder / "tokenizer.json"));
    apply_roles(settings, spec);
    return spec;
  }
  return no_input(fmt::format("{} holds no tokenizer", folder.string()), "tokenizer.json is needed");
}

}  // namespace nibble::text
