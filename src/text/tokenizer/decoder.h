// SPDX-License-Identifier: Apache-2.0
// Decoders of tokenizer.json: from the texts of tokens back to plain text.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json_fwd.h"

namespace nibble::text {

class Decoder {
 public:
  virtual ~Decoder() = default;
  // Changes the list in place; the caller joins what is left. Fails as Pattern::for_each does.
  virtual Status apply(std::vector<std::string>& tokens) const = 0;
};

Result<std::unique_ptr<Decoder>> make_decoder(const Json& description);
Result<std::unique_ptr<Decoder>> make_sentencepiece_decoder(const Json& description);

// The byte of a token "<0xNN>", or -1.
int byte_of_token(std::string_view token);

}  // namespace nibble::text
