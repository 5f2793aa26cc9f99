// SPDX-License-Identifier: Apache-2.0
// A static trie over byte strings as a double array (Aoe 1989): the child of a node for a byte is at base ^
// byte, if the unit there names the node as its parent. One memory access a step.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace nibble::text {

class ByteTrie {
 public:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;
  static constexpr std::uint32_t kRoot = 0;

  ByteTrie() : units_(256) {}
  // Keys need not be sorted; of equal keys the last one's value counts. Empty keys are left out.
  explicit ByteTrie(std::vector<std::pair<std::string_view, TokenId>> keys);

  std::uint32_t child(std::uint32_t node, unsigned char byte) const {
    const std::uint32_t at =
        units_[node].base ^ byte;  // in the same block of 256 units as base: always inside
    return units_[at].parent == node ? at : kNone;
  }

  // Visits (length, value) for every key that `text` starts with, shortest first.
  template <class Visit>
  void prefixes(std::string_view text, Visit visit) const {
    std::uint32_t node = kRoot;
    for (std::size_t i = 0; i < text.size(); ++i) {
      node = child(node, static_cast<unsigned char>(text[i]));
      if (node == kNone) return;
      if (units_[node].value >= 0) visit(i + 1, units_[node].value);
    }
  }

 private:
  static constexpr std::uint32_t kTaken = kNone - 1;  // parent of the root: neither free nor a child
  struct Unit {
    std::uint32_t base = 0;
    std::uint32_t parent = kNone;  // kNone: free
    TokenId value = -1;            // -1: no key ends here
  };
  std::uint32_t find_base(const std::vector<unsigned char>& labels);

  std::vector<Unit> units_;
  std::uint32_t search_from_ = 1;  // no free units are looked for before this one
};

}  // namespace nibble::text
