// SPDX-License-Identifier: Apache-2.0
// A static trie over byte strings: children of a node are neighbours in memory, sorted by byte.
#pragma once

#include <algorithm>
#include <array>
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

  ByteTrie() : nodes_(1) {}
  // Keys need not be sorted; of equal keys the last one's value counts. Empty keys are left out.
  explicit ByteTrie(std::vector<std::pair<std::string_view, TokenId>> keys);

  std::uint32_t child(std::uint32_t node, unsigned char byte) const {
    if (node == kRoot) return root_[byte];
    const Node& parent = nodes_[node];
    const auto first = labels_.begin() + parent.first_child;
    const auto last = first + parent.children;
    const auto found = std::lower_bound(first, last, byte);
    return found != last && *found == byte ? static_cast<std::uint32_t>(found - labels_.begin()) : kNone;
  }
  TokenId value(std::uint32_t node) const { return nodes_[node].value; }  // -1: no key ends here

  // Visits (length, value) for every key that `text` starts with, shortest first.
  template <class Visit>
  void prefixes(std::string_view text, Visit visit) const {
    std::uint32_t node = kRoot;
    for (std::size_t i = 0; i < text.size(); ++i) {
      node = child(node, static_cast<unsigned char>(text[i]));
      if (node == kNone) return;
      if (nodes_[node].value >= 0) visit(i + 1, nodes_[node].value);
    }
  }

 private:
  struct Node {
    std::uint32_t first_child = 0;
    std::uint32_t children = 0;
    TokenId value = -1;
  };
  std::vector<Node> nodes_;
  std::vector<unsigned char> labels_;  // labels_[i] leads to node i
  std::array<std::uint32_t, 256> root_ = [] {
    std::array<std::uint32_t, 256> none{};
    none.fill(kNone);
    return none;
  }();
};

}  // namespace nibble::text
