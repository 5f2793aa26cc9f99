// SPDX-License-Identifier: Apache-2.0
// A direct-mapped memory of the ids of short pieces. It only remembers what the model would say again, so
// results do not depend on it; its size is fixed (1 MB). One cache is used by one call at a time.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "text/tokenizer/vocabulary.h"

namespace nibble::text {

class WordCache {
 public:
  struct Entry {
    std::array<char, 30> bytes{};
    std::uint8_t length = 0;  // 0: free
    std::uint8_t count = 0;
    std::array<TokenId, 8> ids{};
  };
  static constexpr std::size_t kLongestPiece = std::tuple_size_v<decltype(Entry::bytes)>;
  static constexpr std::size_t kMostIds = std::tuple_size_v<decltype(Entry::ids)>;

  WordCache() : entries_(kEntries) {}

  // The place of `piece` (1 to kLongestPiece bytes), and whether it is there.
  Entry& place_of(std::string_view piece) { return entries_[hash_bytes(piece) & (kEntries - 1)]; }
  static bool holds(const Entry& entry, std::string_view piece) {
    return entry.length == piece.size() && std::memcmp(entry.bytes.data(), piece.data(), piece.size()) == 0;
  }
  static void store(Entry& entry, std::string_view piece, std::span<const TokenId> ids) {
    if (ids.size() > kMostIds) return;
    std::copy(piece.begin(), piece.end(), entry.bytes.begin());
    std::copy(ids.begin(), ids.end(), entry.ids.begin());
    entry.length = static_cast<std::uint8_t>(piece.size());
    entry.count = static_cast<std::uint8_t>(ids.size());
  }

 private:
  static constexpr std::size_t kEntries = std::size_t{1} << 14;
  std::vector<Entry> entries_;
};

}  // namespace nibble::text
