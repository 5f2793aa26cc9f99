// SPDX-License-Identifier: Apache-2.0
// The models of tokenizer.json: they turn one piece into ids. A model is immutable after construction.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/tokenizer/spec.h"
#include "text/tokenizer/tracked_text.h"

namespace nibble::text {

struct Token {
  TokenId id = kNoToken;
  Span span;  // bytes of the piece
};

class Model {
 public:
  virtual ~Model() = default;
  // Appends the tokens of `piece` (valid UTF-8, or any bytes for a raw-byte model).
  virtual void tokenize(std::string_view piece, std::vector<Token>& out) const = 0;
  // Places where the piece may be cut without changing the result, so that a text without white space between
  // pieces can be cached by words: the length of the first part. The default never cuts.
  virtual std::size_t first_part(std::string_view piece) const { return piece.size(); }
};

// `raw_bytes`: pieces are bytes, and the tokens of the vocabulary are written in the byte-level alphabet.
Result<std::unique_ptr<Model>> make_model(const ModelSpec& spec, bool raw_bytes);

Result<std::unique_ptr<Model>> make_bpe(const ModelSpec& spec, bool raw_bytes);
Result<std::unique_ptr<Model>> make_unigram(const ModelSpec& spec);
Result<std::unique_ptr<Model>> make_word_piece(const ModelSpec& spec);
Result<std::unique_ptr<Model>> make_word_level(const ModelSpec& spec);

// A BPE without options that need characters can work on raw bytes.
bool can_use_raw_bytes(const ModelSpec& spec);

}  // namespace nibble::text
