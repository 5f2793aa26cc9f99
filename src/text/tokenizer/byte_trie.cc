// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/byte_trie.h"

namespace nibble::text {

ByteTrie::ByteTrie(std::vector<std::pair<std::string_view, TokenId>> keys) : nodes_(1), labels_(1) {
  std::stable_sort(keys.begin(), keys.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  // Breadth first: a work item is a node, its depth, and the range of keys below it.
  struct Range {
    std::uint32_t node;
    std::size_t depth, begin, end;
  };
  std::vector<Range> work{{kRoot, 0, 0, keys.size()}};
  for (std::size_t done = 0; done < work.size(); ++done) {
    auto [node, depth, begin, end] = work[done];
    for (; begin < end && keys[begin].first.size() == depth; ++begin) {
      if (depth > 0) nodes_[node].value = keys[begin].second;
    }
    nodes_[node].first_child = static_cast<std::uint32_t>(nodes_.size());
    while (begin < end) {
      const auto label = static_cast<unsigned char>(keys[begin].first[depth]);
      std::size_t stop = begin;
      while (stop < end && static_cast<unsigned char>(keys[stop].first[depth]) == label) ++stop;
      const auto index = static_cast<std::uint32_t>(nodes_.size());
      nodes_.emplace_back();
      labels_.push_back(label);
      ++nodes_[node].children;
      if (node == kRoot) root_[label] = index;
      work.push_back({index, depth + 1, begin, stop});
      begin = stop;
    }
  }
}

}  // namespace nibble::text
