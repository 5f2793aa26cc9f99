// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/byte_trie.h"

#include <algorithm>

namespace nibble::text {

ByteTrie::ByteTrie(std::vector<std::pair<std::string_view, TokenId>> keys) : units_(256) {
  std::stable_sort(keys.begin(), keys.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  units_[kRoot].parent = kTaken;
  // Breadth first: a work item is a node, its depth, and the range of keys below it.
  struct Range {
    std::uint32_t node;
    std::size_t depth, begin, end;
  };
  std::vector<Range> work{{kRoot, 0, 0, keys.size()}};
  std::vector<unsigned char> labels;
  for (std::size_t done = 0; done < work.size(); ++done) {
    auto [node, depth, begin, end] = work[done];
    for (; begin < end && keys[begin].first.size() == depth; ++begin) {
      if (depth > 0) units_[node].value = keys[begin].second;
    }
    const auto label_at = [&, d = depth](std::size_t key) {
      return static_cast<unsigned char>(keys[key].first[d]);
    };
    labels.clear();
    for (std::size_t i = begin; i < end; ++i) {
      if (labels.empty() || labels.back() != label_at(i)) labels.push_back(label_at(i));
    }
    if (labels.empty()) continue;
    const std::uint32_t base = find_base(labels);
    units_[node].base = base;
    for (const unsigned char label : labels) {
      std::size_t stop = begin;
      while (stop < end && label_at(stop) == label) ++stop;
      units_[base ^ label].parent = node;
      work.push_back({base ^ label, depth + 1, begin, stop});
      begin = stop;
    }
  }
}

// A base at which all labels fall on free units. Every unit is looked at a bounded number of times: when a
// crowded stretch has been tried in vain, the search for nodes with many children does not come back to it.
std::uint32_t ByteTrie::find_base(const std::vector<unsigned char>& labels) {
  constexpr std::uint32_t kTries = 512;
  std::uint32_t tried = 0;
  for (std::uint32_t at = search_from_;; ++at) {
    if (at >= units_.size()) units_.resize(units_.size() + 256);
    if (units_[at].parent != kNone) {
      if (at == search_from_) ++search_from_;
      continue;
    }
    const std::uint32_t base = at ^ labels[0];
    const auto is_free = [&](unsigned char label) { return units_[base ^ label].parent == kNone; };
    if (base != kRoot && std::all_of(labels.begin(), labels.end(), is_free)) return base;
    if (++tried > kTries) search_from_ = at;
  }
}

}  // namespace nibble::text
