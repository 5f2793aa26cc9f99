// SPDX-License-Identifier: Apache-2.0
// The "precompiled_charsmap" of SentencePiece, and base64, in which tokenizer.json and tiktoken files write
// bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nibble::text {

class Charsmap {
 public:
  Charsmap() = default;  // maps nothing
  static Result<Charsmap> parse(std::string_view blob);

  struct Match {
    std::size_t length;  // bytes of the text
    std::string_view replacement;
  };
  bool empty() const { return units_.empty(); }
  // The replacement for the shortest key that `text` starts with.
  std::optional<std::string_view> shortest(std::string_view text) const;
  // The longest key that `text` starts with.
  std::optional<Match> longest(std::string_view text) const;

 private:
  template <class Visit>
  void walk(std::string_view text, Visit visit) const;
  std::string_view replacement(std::uint32_t offset) const;

  std::vector<std::uint32_t> units_;
  std::string replacements_;
};

Result<std::string> decode_base64(std::string_view text);
std::string encode_base64(std::string_view bytes);

}  // namespace nibble::text
