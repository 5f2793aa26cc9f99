// SPDX-License-Identifier: Apache-2.0
// (left id, right id) -> (rank, id of the result): the inner loop of BPE. Open addressing, at most half full.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "text/tokenizer.h"

namespace nibble::text {

struct MergeResult {
  std::uint32_t rank = kNever;
  TokenId id = -1;
  static constexpr std::uint32_t kNever = 0xFFFFFFFF;
};

class MergeTable {
 public:
  explicit MergeTable(std::size_t merges) : slots_(std::bit_ceil(merges * 2 + 2)) {
    shift_ = 64 - std::countr_zero(slots_.size());
  }

  // A pair given twice keeps the last rank, as in Hugging Face tokenizers.
  void put(TokenId left, TokenId right, MergeResult result) {
    slot(key_of(left, right)) = {key_of(left, right), result};
  }
  MergeResult find(TokenId left, TokenId right) const {
    return const_cast<MergeTable*>(this)->slot(key_of(left, right)).result;  // slot() does not write
  }

 private:
  struct Slot {
    std::uint64_t key = kEmpty;
    MergeResult result;
  };
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};  // ids are not negative, so no pair has this key
  static std::uint64_t key_of(TokenId left, TokenId right) {
    return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) |
           static_cast<std::uint32_t>(right);
  }
  Slot& slot(std::uint64_t key) {
    std::size_t i = (key * 0x9E3779B97F4A7C15u) >> shift_;
    while (slots_[i].key != key && slots_[i].key != kEmpty) i = (i + 1) & (slots_.size() - 1);
    return slots_[i];
  }

  std::vector<Slot> slots_;
  int shift_;
};

}  // namespace nibble::text
