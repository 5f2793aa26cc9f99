// SPDX-License-Identifier: Apache-2.0
// Darts-clone unit (github.com/s-yata/darts-clone): bits 0-7 label, bit 8 has a leaf, bit 9 wide offset, bits
// 10-31 offset, bit 31 marks a value. Keys and values come from a file, so each index is checked.
#include "text/tokenizer/charsmap.h"

#include <fmt/format.h>

#include <array>
#include <cstring>

namespace nibble::text {
namespace {

constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::uint32_t offset_of(std::uint32_t unit) {
  return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}
bool has_leaf(std::uint32_t unit) {
  return ((unit >> 8) & 1) != 0;
}
std::uint32_t label_of(std::uint32_t unit) {
  return unit & ((1u << 31) | 0xFF);
}

}  // namespace

Result<Charsmap> Charsmap::parse(std::string_view blob) {
  Charsmap map;
  if (blob.empty()) return map;
  std::uint32_t bytes = 0;
  if (blob.size() < sizeof bytes) return bad_data("the precompiled character map is shorter than its header");
  std::memcpy(&bytes, blob.data(), sizeof bytes);
  blob.remove_prefix(sizeof bytes);
  if (bytes > blob.size() || bytes % 4 != 0 || bytes == 0) {
    return bad_data(fmt::format("the array of the precompiled character map has {} bytes, the map has {}",
                                bytes, blob.size()));
  }
  map.units_.resize(bytes / 4);
  std::memcpy(map.units_.data(), blob.data(), bytes);
  map.replacements_ = blob.substr(bytes);
  return map;
}

template <class Visit>
void Charsmap::walk(std::string_view text, Visit visit) const {
  if (units_.empty()) return;
  std::uint32_t node = offset_of(units_[0]);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == 0) return;  // NUL ends keys
    node ^= byte;
    if (node >= units_.size() || label_of(units_[node]) != byte) return;
    const std::uint32_t unit = units_[node];
    node ^= offset_of(unit);
    if (!has_leaf(unit)) continue;
    if (node >= units_.size()) return;
    if (!visit(i + 1, replacement(units_[node] & 0x7FFFFFFF))) return;
  }
}

std::string_view Charsmap::replacement(std::uint32_t offset) const {
  if (offset >= replacements_.size()) return {};
  const std::string_view rest = std::string_view(replacements_).substr(offset);
  return rest.substr(0, rest.find('\0'));
}

std::optional<std::string_view> Charsmap::shortest(std::string_view text) const {
  std::optional<std::string_view> found;
  walk(text, [&](std::size_t, std::string_view replacement) {
    found = replacement;
    return false;
  });
  return found;
}

std::optional<Charsmap::Match> Charsmap::longest(std::string_view text) const {
  std::optional<Match> found;
  walk(text, [&](std::size_t length, std::string_view replacement) {
    found = Match{length, replacement};
    return true;
  });
  return found;
}

Result<std::string> decode_base64(std::string_view text) {
  static const auto kValues = [] {
    std::array<std::int8_t, 256> values{};
    values.fill(-1);
    for (std::size_t i = 0; i < kBase64.size(); ++i)
      values[static_cast<unsigned char>(kBase64[i])] = static_cast<std::int8_t>(i);
    return values;
  }();
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  std::uint32_t bits = 0;
  int count = 0;
  const std::size_t end = text.find_last_not_of('=') + 1;
  if (text.size() - end > 2 && !text.empty()) return bad_data("invalid base64: more than two '=' at the end");
  for (const char c : text.substr(0, end)) {
    const int value = kValues[static_cast<unsigned char>(c)];
    if (value < 0) return bad_data(fmt::format("invalid base64: the character '{}'", c));
    bits = (bits << 6) | static_cast<std::uint32_t>(value);
    if ((count += 6) >= 8) {
      count -= 8;
      bytes.push_back(static_cast<char>(static_cast<unsigned char>((bits >> count) & 0xFF)));
    }
  }
  if (count >= 6) return bad_data("invalid base64: it ends in the middle of a byte");
  return bytes;
}

std::string encode_base64(std::string_view bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t bits = 0;
    const std::size_t n = std::min<std::size_t>(3, bytes.size() - i);
    for (std::size_t k = 0; k < 3; ++k)
      bits = (bits << 8) | (k < n ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (std::size_t k = 0; k < 4; ++k) text.push_back(k <= n ? kBase64[(bits >> (18 - 6 * k)) & 63] : '=');
  }
  return text;
}

}  // namespace nibble::text
