// SPDX-License-Identifier: Apache-2.0
// UTF-8 and the character classes that tokenizers ask for. Classes follow Unicode general categories
// (utf8proc); white space is the Unicode property White_Space, as in Rust's char::is_whitespace and in
// Oniguruma's \s.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace nibble::text {

enum CharClass : std::uint16_t {
  kLetter = 1,        // L
  kMark = 2,          // M
  kNumber = 4,        // N
  kDecimal = 8,       // Nd
  kPunctuation = 16,  // P
  kConnector = 32,    // Pc
  kSpace = 64,        // White_Space
  kOther = 128,       // Cc, Cf, Co, Cs
  kNonspacing = 256,  // Mn, as BERT's normalizer of the reference sees it
  kAsciiPunctuation = 512,
  kAlphabetic = 1024,  // the derived property but for marks: L, Nl, circled letters
  kAccent = 2048,      // M, as StripAccents of the reference sees it
};

inline constexpr char32_t kReplacement = 0xFFFD;
inline constexpr std::string_view kMeta = "\xE2\x96\x81";  // U+2581, SentencePiece's sign for a space

std::uint16_t char_class_slow(char32_t code);
extern const std::array<std::uint16_t, 128> kAsciiClass;

// The bits (kNonspacing, kAccent, kPunctuation, kOther) in which the reference judges a character otherwise
// than utf8proc's category says.
std::uint16_t reference_differences(char32_t code);

inline std::uint16_t char_class(char32_t code) {
  return code < 128 ? kAsciiClass[code] : char_class_slow(code);
}
inline bool is_space(char32_t code) {
  return (char_class(code) & kSpace) != 0;
}

// \w of Rust's regular expressions: Alphabetic, M, Nd, Pc and Join_Control (UTS #18).
inline bool is_word(char32_t code) {
  return (char_class(code) & (kAlphabetic | kMark | kDecimal | kConnector)) != 0 || code == 0x200C ||
         code == 0x200D;
}

// Length in bytes of the character that starts with `lead`; the text must be valid UTF-8.
inline std::uint32_t char_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

struct DecodedChar {
  char32_t code;
  std::uint32_t length;
};

// The character at `at`; the text must be valid UTF-8 there.
inline DecodedChar decode_char(const char* at) {
  const auto byte = [at](int i) { return static_cast<char32_t>(static_cast<unsigned char>(at[i])); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {((lead & 0x1F) << 6) | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {((lead & 0x0F) << 12) | ((byte(1) & 0x3F) << 6) | (byte(2) & 0x3F), 3};
  return {((lead & 0x07) << 18) | ((byte(1) & 0x3F) << 12) | ((byte(2) & 0x3F) << 6) | (byte(3) & 0x3F), 4};
}

// The last character of a valid, non-empty text.
DecodedChar decode_last_char(std::string_view text);

void append_utf8(std::string& out, char32_t code);
std::size_t count_chars(std::string_view valid_utf8);

// Length of the valid UTF-8 that `text` starts with.
std::size_t valid_utf8_prefix(std::string_view text);
inline bool is_valid_utf8(std::string_view text) {
  return valid_utf8_prefix(text) == text.size();
}

// Length (1 to 3) of the invalid sequence `text` starts with, as Unicode recommends to replace it by one
// U+FFFD
// ("maximal subpart", Unicode 15 section 3.9; the same in Rust's from_utf8_lossy and Python's
// errors="replace").
std::size_t invalid_utf8_length(std::string_view text);
std::string to_valid_utf8(std::string_view text);

// The alphabet of byte-level BPE (GPT-2): byte b is written as the character byte_to_char(b), which is
// printable.
char32_t byte_to_char(std::uint8_t byte);
int char_to_byte(char32_t code);  // -1 when the character is not in the alphabet
// The text that byte-level characters stand for; false when some character is not in the alphabet.
bool byte_level_to_bytes(std::string_view text, std::string& bytes);
std::string bytes_to_byte_level(std::string_view bytes);

}  // namespace nibble::text
