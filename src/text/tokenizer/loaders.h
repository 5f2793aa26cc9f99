// SPDX-License-Identifier: Apache-2.0
// Readers of the tokenizer files, one a format. Each gives a TokenizerSpec; Pipeline::create checks the rest
// of it.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/tokenizer.h"
#include "text/tokenizer/spec.h"

namespace nibble::text {

Result<TokenizerSpec> read_tokenizer_json(std::string_view text);

// What the files beside a tokenizer file say: tokenizer_config.json, special_tokens_map.json,
// added_tokens.json, config.json, chat_template.jinja. Everything may be missing.
struct TokenizerSettings {
  std::string tokenizer_class;                       // "GPT2Tokenizer"
  std::string model_type;                            // of config.json
  bool has_llama3_rope = false;                      // of config.json: Llama 3.1 and later
  std::map<std::string, AddedToken> special_tokens;  // by role: "bos_token", "eos_token", "unk_token", ...
  std::vector<AddedToken> added_tokens;              // with their ids
  std::optional<bool> add_bos_token, add_eos_token, add_prefix_space, do_lower_case, strip_accents,
      tokenize_chinese_chars;
  std::string chat_template;
};

Result<TokenizerSettings> read_tokenizer_settings(const std::filesystem::path& folder);

}  // namespace nibble::text
