// SPDX-License-Identifier: Apache-2.0
// The regular expressions that nearly all byte-level BPE models cut words with, written out by hand (20 to 50
// times as fast as PCRE2, which is the oracle of their tests).
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace nibble::text {

inline constexpr std::string_view kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kLlama3Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kQwen2Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

class WordScanner {
 public:
  // The scanner for an expression, if it is one of the above (to the letter).
  static std::optional<WordScanner> for_expression(std::string_view expression);

  // End of the match that begins at `begin` < text.size(). All three expressions match everywhere and leave
  // no gaps. Linear in the match, but for runs of white space, which may be looked through three times.
  std::size_t next(std::string_view valid_utf8, std::size_t begin) const {
    return max_digits_ == 0 ? next_gpt2(valid_utf8, begin) : next_llama3(valid_utf8, begin);
  }

 private:
  explicit WordScanner(int max_digits) : max_digits_(max_digits) {}
  static std::size_t next_gpt2(std::string_view text, std::size_t begin);
  std::size_t next_llama3(std::string_view text, std::size_t begin) const;

  int max_digits_;  // 0: GPT-2; otherwise the longest run of digits
};

}  // namespace nibble::text
