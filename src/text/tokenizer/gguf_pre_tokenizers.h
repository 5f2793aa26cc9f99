// SPDX-License-Identifier: Apache-2.0
// The names that llama.cpp gives pre-tokenizers of byte-level BPE vocabularies (tokenizer.ggml.pre), and what
// each stands for.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nibble::text {

struct GgufPreTokenizer {
  enum class Form {
    kExpressions,  // one Split after the other, then ByteLevel; a single GPT-2 expression is ByteLevel's own
    kDigits,       // digits one by one, then GPT-2's expression
    kFalcon,       // punctuation, GPT-2's expression, digits, groups of three
    kLines,        // no byte-level alphabet: spaces become U+2581, cut at line ends, bytes as <0xNN>
  };
  Form form = Form::kExpressions;
  std::vector<std::string_view> expressions{};
  bool whole_words_first = false;  // a word that is a token needs no merges
  bool add_bos = false;            // when the file does not say
  bool add_sep = false;            // <s> A </s>
  bool nfc = false;                // the model's own tokenizer normalizes (llama.cpp does not)
};

// An empty name means "default". Unknown names are an error with the nearest ones.
Result<GgufPreTokenizer> gguf_pre_tokenizer(std::string_view name);

std::vector<std::string_view> gguf_pre_tokenizer_names();

std::string pre_tokenizer_json(const GgufPreTokenizer& pre);

}  // namespace nibble::text
