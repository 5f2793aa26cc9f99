// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstring>

namespace nibble::text {
namespace {

constexpr bool is_white_space_property(char32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

// Symbols (So) with the property Other_Alphabetic.
constexpr bool is_circled_letter(char32_t c) {
  return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
         (c >= 0x1F170 && c <= 0x1F189);
}

// Indexed by utf8proc_category_t: Cn Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl
// Zp Cc Cf Cs Co.
constexpr std::array<std::uint16_t, 30> kClassOfCategory = {0,
                                                            kLetter | kAlphabetic,
                                                            kLetter | kAlphabetic,
                                                            kLetter | kAlphabetic,
                                                            kLetter | kAlphabetic,
                                                            kLetter | kAlphabetic,
                                                            kMark | kAccent | kNonspacing,
                                                            kMark | kAccent,
                                                            kMark | kAccent,
                                                            kNumber | kDecimal,
                                                            kNumber | kAlphabetic,
                                                            kNumber,
                                                            kPunctuation | kConnector,
                                                            kPunctuation,
                                                            kPunctuation,
                                                            kPunctuation,
                                                            kPunctuation,
                                                            kPunctuation,
                                                            kPunctuation,
                                                            0,
                                                            0,
                                                            0,
                                                            0,
                                                            0,
                                                            0,
                                                            0,
                                                            kOther,
                                                            kOther,
                                                            kOther,
                                                            kOther};

std::array<std::uint16_t, 128> ascii_classes() {
  std::array<std::uint16_t, 128> classes{};
  for (char32_t c = 0; c < 128; ++c) {
    classes[c] = char_class_slow(c);
    const bool punctuation =
        (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c < 127);
    if (punctuation) classes[c] |= kAsciiPunctuation;
  }
  return classes;
}

struct ByteAlphabet {
  std::array<char32_t, 256> to_char{};
  std::array<std::int16_t, 324> to_byte{};  // the alphabet ends at U+0143
  ByteAlphabet() {
    to_byte.fill(-1);
    char32_t next = 256;
    for (std::size_t b = 0; b < 256; ++b) {
      const bool printable = (b >= 33 && b <= 126) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      to_char[b] = printable ? static_cast<char32_t>(b) : next++;
      to_byte[to_char[b]] = static_cast<std::int16_t>(b);
    }
  }
};

const ByteAlphabet& byte_alphabet() {
  static const ByteAlphabet alphabet;
  return alphabet;
}

bool continues(std::string_view text, std::size_t i, unsigned low = 0x80, unsigned high = 0xBF) {
  return i < text.size() && static_cast<unsigned char>(text[i]) >= low &&
         static_cast<unsigned char>(text[i]) <= high;
}

struct SecondByte {
  unsigned low, high;
  std::size_t length;  // of the whole sequence; 0: no sequence starts with this byte
};

// Table 3-7 of the Unicode standard.
SecondByte second_byte(unsigned char lead) {
  if (lead >= 0xC2 && lead <= 0xDF) return {0x80, 0xBF, 2};
  if (lead == 0xE0) return {0xA0, 0xBF, 3};
  if (lead == 0xED) return {0x80, 0x9F, 3};
  if (lead >= 0xE1 && lead <= 0xEF) return {0x80, 0xBF, 3};
  if (lead == 0xF0) return {0x90, 0xBF, 4};
  if (lead >= 0xF1 && lead <= 0xF3) return {0x80, 0xBF, 4};
  if (lead == 0xF4) return {0x80, 0x8F, 4};
  return {0, 0, 0};
}

// Bytes of `text` that belong to the sequence begun at its start, and whether it is complete.
std::size_t sequence_prefix(std::string_view text, bool& complete) {
  const SecondByte rule = second_byte(static_cast<unsigned char>(text[0]));
  std::size_t length = 1;
  if (rule.length >= 2 && continues(text, 1, rule.low, rule.high)) {
    length = 2;
    while (length < rule.length && continues(text, length)) ++length;
  }
  complete = rule.length != 0 && length == rule.length;
  return length;
}

}  // namespace

const std::array<std::uint16_t, 128> kAsciiClass = ascii_classes();

std::uint16_t char_class_slow(char32_t code) {
  const auto category = static_cast<std::size_t>(utf8proc_category(static_cast<utf8proc_int32_t>(code)));
  unsigned bits = kClassOfCategory[category];
  if (is_white_space_property(code)) bits |= kSpace;
  if (is_circled_letter(code)) bits |= kAlphabetic;
  if (code >= 0x600 && (bits & (kLetter | kNumber)) == 0) bits ^= reference_differences(code);
  return static_cast<std::uint16_t>(bits);
}

DecodedChar decode_last_char(std::string_view text) {
  std::size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return decode_char(text.data() + at);
}

void append_utf8(std::string& out, char32_t code) {
  const auto put = [&out](char32_t byte) {
    out.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
  };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | (code >> 6));
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3F));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

std::size_t count_chars(std::string_view valid_utf8) {
  return static_cast<std::size_t>(std::count_if(valid_utf8.begin(), valid_utf8.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

std::size_t valid_utf8_prefix(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    std::uint64_t eight = 0;
    if (i + 8 <= text.size() &&
        (std::memcpy(&eight, text.data() + i, 8), (eight & 0x8080808080808080u) == 0)) {
      i += 8;
      continue;
    }
    if (static_cast<unsigned char>(text[i]) < 0x80) {
      ++i;
      continue;
    }
    bool complete = false;
    const std::size_t length = sequence_prefix(text.substr(i), complete);
    if (!complete) return i;
    i += length;
  }
  return i;
}

std::size_t invalid_utf8_length(std::string_view text) {
  bool complete = false;
  return sequence_prefix(text, complete);
}

std::string to_valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t valid = valid_utf8_prefix(text);
    out.append(text.substr(0, valid));
    text.remove_prefix(valid);
    if (text.empty()) break;
    append_utf8(out, kReplacement);
    text.remove_prefix(invalid_utf8_length(text));
  }
  return out;
}

char32_t byte_to_char(std::uint8_t byte) {
  return byte_alphabet().to_char[byte];
}

int char_to_byte(char32_t code) {
  const auto& table = byte_alphabet().to_byte;
  return code < table.size() ? table[code] : -1;
}

bool byte_level_to_bytes(std::string_view text, std::string& bytes) {
  bytes.clear();
  for (std::size_t i = 0; i < text.size();) {
    const DecodedChar c = decode_char(text.data() + i);
    const int byte = char_to_byte(c.code);
    if (byte < 0) return false;
    bytes.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
    i += c.length;
  }
  return true;
}

std::string bytes_to_byte_level(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) append_utf8(text, byte_to_char(static_cast<std::uint8_t>(c)));
  return text;
}

}  // namespace nibble::text
