// SPDX-License-Identifier: Apache-2.0
// A tokenizer turns text into ids and back, exactly as the model's own. Files: tokenizer.json,
// vocab.json+merges.txt, vocab.txt, tokenizer.model (SentencePiece or tiktoken ranks), *.tiktoken, and the
// vocabulary of a GGUF file (given as GgufVocabulary so that this layer knows no file format of models).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"

namespace nibble {

using TokenId = std::int32_t;

// The tokenizer.ggml.* keys of a GGUF file.
struct GgufVocabulary {
  std::string model;  // "llama" (SPM), "gpt2" (BPE), "bert" (WordPiece), "t5" (Unigram)
  std::string pre;    // named pre-tokeniser: "smollm", "llama-bpe", "qwen2"
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<std::int32_t> token_types;
  std::vector<std::string> merges;
  std::optional<TokenId> bos, eos, unknown, separator, padding, cls, mask;
  std::optional<bool> add_bos, add_eos, add_space_prefix, remove_extra_whitespaces;
  std::string precompiled_charsmap;
  std::string chat_template;
};

// A span [begin, end) of bytes of the text; {0, 0} with `special` for ids that stand for no text.
struct TokenOffset {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  bool special = false;
  std::uint8_t sequence = 0;  // 0: the first or only text, 1: the second text of a pair
};

struct Encoding {
  std::vector<TokenId> ids;
  std::vector<TokenOffset> offsets;
  std::vector<std::int32_t> type_ids;  // BERT's token_type_ids: 0 for the first text, 1 for the second
};

class Tokenizer {
 public:
  // Finds the tokenizer files in `folder`.
  static Result<std::unique_ptr<Tokenizer>> from_folder(const std::filesystem::path& folder);
  static Result<std::unique_ptr<Tokenizer>> from_gguf(const GgufVocabulary& vocabulary);

  virtual ~Tokenizer() = default;
  // Any byte string is accepted; invalid UTF-8 is treated as the reference does (replacement character). What
  // can fail is the tokenizer: an expression of its file that backtracks without end on this text, a
  // normalizer that grows it without bound.
  virtual Result<std::vector<TokenId>> encode(std::string_view text, bool add_special_tokens) const = 0;
  virtual Result<Encoding> encode_with_offsets(std::string_view text, bool add_special_tokens) const = 0;
  virtual Result<std::string> decode(std::span<const TokenId> ids, bool skip_special_tokens) const = 0;
  // Largest id + 1, added tokens included: every id of encode() is below it.
  virtual std::int64_t vocabulary_size() const = 0;
  virtual std::optional<TokenId> token_id(std::string_view token) const = 0;
  virtual std::string token_text(TokenId id) const = 0;  // as in the vocabulary, not decoded
  virtual std::optional<TokenId> bos() const = 0;
  virtual std::optional<TokenId> eos() const = 0;
  // Ids that [CLS] a [SEP] b [SEP]-like templates put around a pair; used for question answering.
  virtual Result<Encoding> encode_pair(std::string_view first, std::string_view second) const = 0;
  // The chat template that came with the tokenizer, or empty.
  virtual const std::string& chat_template() const = 0;
  // A tokenizer.json that transformers reads to the same ids (for a model that came as GGUF).
  virtual Result<std::string> to_tokenizer_json() const = 0;

  // encode() of each text, in the order of the texts, on all threads of the pool; or the error of the first
  // text that failed.
  Result<std::vector<std::vector<TokenId>>> encode_batch(ThreadPool& pool,
                                                         std::span<const std::string_view> texts,
                                                         bool add_special_tokens) const;
};

}  // namespace nibble
