// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/word_scanner.h"

#include <array>

#include "text/tokenizer/unicode.h"

namespace nibble::text {
namespace {

// What the expressions distinguish. kEnd stands for the end of the text.
enum Kind : std::uint8_t { kOtherKind, kLetterKind, kNumberKind, kSpaceKind, kEnd };

Kind kind_of_class(std::uint16_t bits) {
  if ((bits & kLetter) != 0) return kLetterKind;
  if ((bits & kNumber) != 0) return kNumberKind;
  return (bits & kSpace) != 0 ? kSpaceKind : kOtherKind;
}

struct AsciiKinds {
  std::array<Kind, 128> kinds{};
  AsciiKinds() {
    for (char32_t c = 0; c < 128; ++c) kinds[c] = kind_of_class(char_class_slow(c));
  }
};
const AsciiKinds kAscii;

struct At {
  Kind kind;
  std::uint32_t length;
};

inline At look(std::string_view text, std::size_t i) {
  if (i >= text.size()) return {kEnd, 0};
  const auto byte = static_cast<unsigned char>(text[i]);
  if (byte < 128) return {kAscii.kinds[byte], 1};
  const DecodedChar c = decode_char(text.data() + i);
  return {kind_of_class(char_class_slow(c.code)), c.length};
}

inline std::size_t end_of_run(std::string_view text, std::size_t i, Kind kind) {
  for (;;) {
    const At at = look(text, i);
    if (at.kind != kind) return i;
    i += at.length;
  }
}

bool is_line_end(char c) {
  return c == '\r' || c == '\n';
}

// \s+(?!\S)|\s+ at a run of white space: all of it at the end of the text, else all but its last character
// (which goes with the word that follows), but at least one character.
std::size_t end_of_space(std::string_view text, std::size_t begin) {
  std::size_t i = begin, last = begin;
  for (At at = look(text, i); at.kind == kSpaceKind; at = look(text, i)) {
    last = i;
    i += at.length;
  }
  return i < text.size() && last > begin ? last : i;
}

// Length of 's 't 'm 'd 're 've 'll at text[at], 0 if none.
std::size_t contraction(std::string_view text, std::size_t at, bool any_case) {
  const auto letter = [&](std::size_t i) {
    if (i >= text.size()) return '\0';
    const char c = text[i];
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char a = letter(at + 1), b = letter(at + 2);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
  // U+017F (long s) is the same letter as s when case does not matter.
  return any_case && text.substr(at + 1, 2) == "\xC5\xBF" ? 3 : 0;
}

}  // namespace

std::optional<WordScanner> WordScanner::for_expression(std::string_view expression) {
  if (expression == kGpt2Words) return WordScanner(0);
  if (expression == kQwen2Words) return WordScanner(1);
  if (expression == kLlama3Words) return WordScanner(3);
  return std::nullopt;
}

std::size_t WordScanner::next_gpt2(std::string_view text, std::size_t begin) {
  if (text[begin] == '\'') {
    if (const std::size_t length = contraction(text, begin, false); length > 0) return begin + length;
  }
  At at = look(text, begin);
  std::size_t start = begin;
  if (text[begin] == ' ') {
    const At next = look(text, begin + 1);
    if (next.kind != kSpaceKind && next.kind != kEnd) {
      at = next;
      start = begin + 1;
    }
  }
  if (at.kind == kSpaceKind) return end_of_space(text, begin);
  return end_of_run(text, start + at.length, at.kind);
}

std::size_t WordScanner::next_llama3(std::string_view text, std::size_t begin) const {
  if (text[begin] == '\'') {
    if (const std::size_t length = contraction(text, begin, true); length > 0) return begin + length;
  }
  const At at = look(text, begin);
  const std::size_t second = begin + at.length;
  if (at.kind == kLetterKind) return end_of_run(text, second, kLetterKind);
  if (at.kind == kNumberKind) {
    std::size_t i = second;
    for (int digits = 1; digits < max_digits_; ++digits) {
      const At next = look(text, i);
      if (next.kind != kNumberKind) break;
      i += next.length;
    }
    return i;
  }
  const At next = look(text, second);
  if (next.kind == kLetterKind && !is_line_end(text[begin])) return end_of_run(text, second, kLetterKind);
  if (at.kind == kOtherKind || (text[begin] == ' ' && next.kind == kOtherKind)) {
    std::size_t i = end_of_run(text, second, kOtherKind);
    while (i < text.size() && is_line_end(text[i])) ++i;
    return i;
  }
  const std::size_t run_end = end_of_run(text, begin, kSpaceKind);
  for (std::size_t i = run_end; i > begin; --i) {
    if (is_line_end(text[i - 1])) return i;
  }
  return end_of_space(text, begin);
}

}  // namespace nibble::text
