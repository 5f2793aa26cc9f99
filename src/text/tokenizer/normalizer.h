// SPDX-License-Identifier: Apache-2.0
// Normalizers of tokenizer.json, with the semantics of Hugging Face tokenizers 0.23 (origins of characters
// included).
#pragma once

#include <memory>
#include <string>

#include "base/error.h"
#include "base/json_fwd.h"
#include "text/tokenizer/tracked_text.h"

namespace nibble::text {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  // `text.bytes` is valid UTF-8 and stays so. Fails as Pattern::for_each and check_growth() do.
  virtual Status apply(TrackedText& text) const = 0;
};

Result<std::unique_ptr<Normalizer>> make_normalizer(const Json& description);

// Normalizers with a file of their own.
Result<std::unique_ptr<Normalizer>> make_unicode_normalizer(const Json& description);  // NFC NFD NFKC NFKD
Result<std::unique_ptr<Normalizer>> make_bert_normalizer(const Json& description);
Result<std::unique_ptr<Normalizer>> make_precompiled_normalizer(const Json& description);
Result<std::unique_ptr<Normalizer>> make_sentencepiece_normalizer(const Json& description);

// Character by character, as Rust does for one char: only U+0130 becomes two characters.
void append_lower(std::string& out, char32_t code);

}  // namespace nibble::text
