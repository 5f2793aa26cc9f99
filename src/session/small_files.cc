// SPDX-License-Identifier: Apache-2.0
#include "session/small_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "session/gguf_vocabulary.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

// Written anew, or describing another layout of the weights.
const std::vector<std::string> kReplaced{"config.json", "README.md", "recipe.yaml", "report.json"};

constexpr std::array<std::string_view, 9> kTokenizerFiles{"tokenizer.json",
                                                          "tokenizer_config.json",
                                                          "special_tokens_map.json",
                                                          "added_tokens.json",
                                                          "vocab.json",
                                                          "merges.txt",
                                                          "vocab.txt",
                                                          "tokenizer.model",
                                                          "chat_template.jinja"};

constexpr std::array<std::string_view, 5> kProcessorFiles{
    "processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json",
    "feature_extractor_config.json", "chat_template.json"};

bool is_among(std::span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::span<const std::string_view> tokenizer_files() {
  return kTokenizerFiles;
}
std::span<const std::string_view> processor_files() {
  return kProcessorFiles;
}

Status SmallFiles::copy_companions(const std::string& tokenizer, const std::string& processor) {
  std::vector<std::string> except = kReplaced;
  if (!tokenizer.empty()) except.insert(except.end(), kTokenizerFiles.begin(), kTokenizerFiles.end());
  if (!processor.empty()) except.insert(except.end(), kProcessorFiles.begin(), kProcessorFiles.end());
  TRY_ASSIGN(copied_, output_.copy_companions(source_, except));
  if (source_.gguf()) TRY(convert_gguf(!tokenizer.empty()));
  if (!tokenizer.empty()) TRY(copy_among(tokenizer, kTokenizerFiles));
  if (!processor.empty()) TRY(copy_among(processor, kProcessorFiles));
  for (const fs::path& file : source_.companion_files()) {
    // The text of the base model's card, often with terms that must travel.
    if (file.filename() != "README.md") continue;
    TRY(output_.copy_file(file, "README.base.md"));
    copied_.emplace_back("README.base.md");
  }
  return {};
}

Status SmallFiles::convert_gguf(bool has_other_tokenizer) {
  TRY_ASSIGN(const auto files, gguf_companion_files(*source_.gguf(), source_.config()));
  for (const auto& [name, text] : files) {
    if (!has_other_tokenizer || !is_among(kTokenizerFiles, name)) TRY(write(name, text));
  }
  return {};
}

Status SmallFiles::copy_among(const fs::path& folder, std::span<const std::string_view> names) {
  for (const std::string_view name : names) {
    std::error_code status;
    if (!fs::exists(folder / name, status)) continue;
    TRY(output_.copy_file(folder / name));
    copied_.emplace_back(name);
  }
  return {};
}

Status SmallFiles::write(std::string_view name, std::string_view content) {
  TRY(output_.write_file(name, content));
  written_.emplace_back(std::string(name), content.size());
  return {};
}

}  // namespace nibble
