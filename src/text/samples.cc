// SPDX-License-Identifier: Apache-2.0
#include "text/samples.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/rng.h"

namespace nibble {

std::vector<std::int64_t> shuffled_order(std::int64_t count, std::uint64_t seed) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  Rng rng(seed);
  for (std::size_t i = order.size(); i > 1; --i)
    std::swap(order[i - 1], order[rng.below(i)]);  // Fisher-Yates
  return order;
}

std::vector<std::int64_t> longest_first(std::span<const TokenIds> samples) {
  std::vector<std::int64_t> order(samples.size());
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return samples[static_cast<std::size_t>(a)].size() > samples[static_cast<std::size_t>(b)].size();
  });
  return order;
}

std::vector<TokenIds> concatenated_blocks(std::span<const TokenIds> documents, std::int64_t max_seq_length) {
  CHECK(max_seq_length > 0, "blocks need a length");
  const auto length = static_cast<std::size_t>(max_seq_length);
  std::vector<TokenIds> blocks;
  TokenIds block;
  for (const TokenIds& document : documents) {
    std::size_t begin = 0;
    while (begin < document.size()) {
      const std::size_t count = std::min(length - block.size(), document.size() - begin);
      const auto first = document.begin() + static_cast<std::ptrdiff_t>(begin);
      block.insert(block.end(), first, first + static_cast<std::ptrdiff_t>(count));
      begin += count;
      if (block.size() == length) blocks.push_back(std::exchange(block, {}));
    }
  }
  return blocks;
}

void truncate_samples(std::vector<TokenIds>& samples, std::int64_t max_seq_length) {
  for (TokenIds& sample : samples) {
    if (static_cast<std::int64_t>(sample.size()) > max_seq_length)
      sample.resize(static_cast<std::size_t>(max_seq_length));
  }
}

std::string_view to_string(Collator collator) {
  return collator == Collator::kTruncation ? "truncation" : "padding";
}

std::optional<Collator> collator_from_string(std::string_view name) {
  if (name == "truncation") return Collator::kTruncation;
  if (name == "padding") return Collator::kPadding;
  return std::nullopt;
}

std::vector<SampleBatch> collate(std::span<const TokenIds> samples, std::int64_t batch_size,
                                 Collator collator, TokenId pad, std::int64_t pad_to) {
  CHECK(batch_size > 0, "batches need a size");
  std::vector<SampleBatch> batches;
  for (std::size_t begin = 0; begin < samples.size(); begin += static_cast<std::size_t>(batch_size)) {
    const std::size_t count = std::min(static_cast<std::size_t>(batch_size), samples.size() - begin);
    SampleBatch batch;
    batch.ids.assign(samples.begin() + static_cast<std::ptrdiff_t>(begin),
                     samples.begin() + static_cast<std::ptrdiff_t>(begin + count));
    const auto [shortest, longest] =
        std::minmax_element(batch.ids.begin(), batch.ids.end(),
                            [](const TokenIds& a, const TokenIds& b) { return a.size() < b.size(); });
    const bool cut = collator == Collator::kTruncation && pad_to <= 0;
    const std::size_t length =
        cut ? shortest->size()
            : std::max(longest->size(), static_cast<std::size_t>(std::max<std::int64_t>(pad_to, 0)));
    for (TokenIds& ids : batch.ids) {
      batch.lengths.push_back(static_cast<std::int64_t>(std::min(ids.size(), length)));
      ids.resize(length, pad);
    }
    batches.push_back(std::move(batch));
  }
  return batches;
}

std::vector<TokenIds> short_document_blocks(std::span<const TokenIds> documents, std::int64_t max_seq_length,
                                            std::int64_t most) {
  std::vector<TokenIds> kept;
  for (const TokenIds& document : documents) {
    if (static_cast<std::int64_t>(kept.size()) == most) break;
    if (!document.empty() && static_cast<std::int64_t>(document.size()) <= max_seq_length)
      kept.push_back(document);
  }
  return concatenated_blocks(kept, max_seq_length);
}

}  // namespace nibble
