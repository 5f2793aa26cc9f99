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
  bool is_spiece_file = false;  // the model is called spiece.model, as T5's is
};

Result<TokenizerSettings> read_tokenizer_settings(const std::filesystem::path& folder);

// tokenizer.model or spiece.model of SentencePiece (a protocol buffer).
Result<TokenizerSpec> read_sentencepiece_model(std::string_view bytes, const TokenizerSettings& settings);
// Ranks as OpenAI's tiktoken writes them: lines of a base64 token and its rank (tokenizer.model of Llama 3,
// qwen.tiktoken, cl100k_base.tiktoken). The number of ranks tells which family it is.
Result<TokenizerSpec> read_tiktoken(std::string_view text, const TokenizerSettings& settings);
bool looks_like_tiktoken(std::string_view text);
// vocab.json and merges.txt of GPT-2, RoBERTa, OPT, Qwen2 ...
Result<TokenizerSpec> read_gpt2_files(std::string_view vocabulary, std::string_view merges,
                                      const TokenizerSettings& settings);
// vocab.txt of BERT and its relatives.
Result<TokenizerSpec> read_bert_vocabulary(std::string_view text, const TokenizerSettings& settings);

// The flat JSON object of a vocab.json.
Result<Vocabulary> read_vocabulary_json(std::string_view text);
Result<TokenizerSpec> read_gguf_vocabulary(const GgufVocabulary& gguf);

}  // namespace nibble::text
