// SPDX-License-Identifier: Apache-2.0
// Tokens and ids, both ways. Token texts lie in one arena and the table is open addressing, so a vocabulary
// of 262k tokens costs a few MB. Ids may have holes (tokenizer.json allows them) but are bounded.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/tokenizer.h"

namespace nibble::text {

// Larger ids are refused before memory is taken; the largest known vocabularies have 0.3 million tokens.
inline constexpr std::int64_t kMaxTokenId = (std::int64_t{1} << 22) - 1;
inline constexpr TokenId kNoToken = -1;

std::uint64_t hash_bytes(std::string_view bytes);

class Vocabulary {
 public:
  enum class Repeat { kRefuse, kLastWins };
  // Refuses invalid UTF-8, ids out of range, ids used twice and, unless kLastWins, texts used twice.
  Status add(std::string_view token, std::int64_t id, Repeat repeat = Repeat::kRefuse);

  TokenId find(std::string_view token) const;  // kNoToken when absent
  bool has(TokenId id) const {
    return id >= 0 && id < end_id() && entries_[static_cast<std::size_t>(id)].length != kHole;
  }
  std::string_view text(TokenId id) const;  // empty for ids that are not there
  TokenId end_id() const { return static_cast<TokenId>(entries_.size()); }  // largest id + 1
  std::int64_t size() const { return count_; }                              // tokens that are there

 private:
  static constexpr std::uint32_t kHole = 0xFFFFFFFF;
  struct Entry {
    std::uint32_t offset = 0;
    std::uint32_t length = kHole;
  };
  struct Slot {
    std::uint32_t tag = 0;
    TokenId id = kNoToken;
  };
  void grow_table();
  Slot& slot_of(std::string_view token, std::uint64_t hash);

  std::string arena_;
  std::vector<Entry> entries_;
  std::vector<Slot> table_;  // size is a power of two, at most 2/3 full
  std::size_t used_ = 0;
  std::int64_t count_ = 0;
};

}  // namespace nibble::text
