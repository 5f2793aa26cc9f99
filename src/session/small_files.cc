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

bool is_tokenizer_file(const std::string& name) {
  return std::find(kTokenizerFiles.begin(), kTokenizerFiles.end(), name) != kTokenizerFiles.end();
}

}  // namespace

Status SmallFiles::copy_companions(const std::string& tokenizer) {
  std::vector<std::string> except = kReplaced;
  if (!tokenizer.empty()) except.insert(except.end(), kTokenizerFiles.begin(), kTokenizerFiles.end());
  TRY_ASSIGN(copied_, output_.copy_companions(source_, except));
  if (source_.gguf()) TRY(convert_gguf(!tokenizer.empty()));
  if (!tokenizer.empty()) TRY(copy_tokenizer(tokenizer));
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
    if (!has_other_tokenizer || !is_tokenizer_file(name)) TRY(write(name, text));
  }
  return {};
}

Status SmallFiles::copy_tokenizer(const std::string& folder) {
  std::size_t found = 0;
  std::error_code ignored;
  for (fs::directory_iterator it(folder, ignored), end; !ignored && it != end; it.increment(ignored)) {
    const std::string name = it->path().filename().string();
    if (!is_tokenizer_file(name)) continue;
    TRY(output_.copy_file(it->path()));
    copied_.push_back(name);
    ++found;
  }
  if (found == 0) return no_input(fmt::format("{} holds no tokenizer", folder));
  return {};
}

Status SmallFiles::write(std::string_view name, std::string_view content) {
  TRY(output_.write_file(name, content));
  written_.emplace_back(std::string(name), content.size());
  return {};
}

}  // namespace nibble
