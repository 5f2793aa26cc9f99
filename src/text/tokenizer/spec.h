// SPDX-License-Identifier: Apache-2.0
// What every tokenizer file is read into: the parts of a tokenizer.json (Hugging Face tokenizers). The
// pipeline is built from it and to_tokenizer_json() writes it, so a tokenizer that came from a GGUF file or a
// SentencePiece model and its exported form are the same thing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "text/tokenizer/vocabulary.h"

namespace nibble::text {

struct AddedToken {
  std::string content;
  TokenId id = kNoToken;
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = false;
  bool special = false;
  bool in_text = true;  // false: never looked for in texts (control symbols of SentencePiece)
};

enum class ModelKind { kBpe, kUnigram, kWordPiece, kWordLevel };

struct Merge {
  TokenId left = kNoToken;
  TokenId right = kNoToken;
  std::uint32_t rank = 0;
};

struct ModelSpec {
  ModelKind kind = ModelKind::kBpe;
  Vocabulary vocabulary;
  std::string unk_token;  // empty: none
  // BPE. Merges in the order of the file; equal ranks (SentencePiece scores) are taken from left to right.
  std::vector<Merge> merges;
  std::string continuing_subword_prefix;  // also WordPiece
  std::string end_of_word_suffix;
  bool byte_fallback = false;  // also Unigram
  bool fuse_unk = false;
  bool ignore_merges = false;
  // Unigram: one score an id. SentencePiece sums in float, Hugging Face in double; near-ties differ.
  std::vector<double> scores;
  TokenId unk_id = kNoToken;
  bool single_precision = false;
  std::vector<TokenId> never_chosen;   // control, byte and unused pieces of SentencePiece
  std::optional<double> lowest_score;  // unknown characters cost 10 more; default: the lowest of all
  // WordPiece
  std::int64_t max_input_chars_per_word = 100;
};

struct TokenizerSpec {
  // JSON texts as in tokenizer.json; empty means null. Besides the types of Hugging Face they may hold the
  // type "SentencePiece" (normalizer and decoder), which is written out as the nearest standard sequence.
  std::string normalizer, pre_tokenizer, post_processor, decoder;
  std::vector<AddedToken> added_tokens;
  // Contents of normalized added tokens are matched as they stand, without running the normalizer over them.
  bool match_added_tokens_verbatim = false;
  ModelSpec model;
  std::optional<TokenId> bos, eos;
  std::string chat_template;
};

}  // namespace nibble::text
