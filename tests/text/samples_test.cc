// SPDX-License-Identifier: Apache-2.0
#include "text/samples.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace nibble {
namespace {

using testing::ElementsAre;

TEST(Samples, AShuffleIsAPermutationThatTheSeedAloneDecides) {
  const std::vector<std::int64_t> order = shuffled_order(1000, 7);
  EXPECT_EQ(order, shuffled_order(1000, 7));
  EXPECT_NE(order, shuffled_order(1000, 8));
  std::vector<std::int64_t> sorted = order;
  std::sort(sorted.begin(), sorted.end());
  for (std::int64_t i = 0; i < 1000; ++i) EXPECT_EQ(sorted[static_cast<std::size_t>(i)], i);
  EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
  EXPECT_TRUE(shuffled_order(0, 1).empty());
}

TEST(Samples, ShufflesReachEveryPermutation) {
  std::vector<int> counts(6);
  for (std::uint64_t seed = 0; seed < 6000; ++seed) {
    const std::vector<std::int64_t> order = shuffled_order(3, seed);
    ++counts[static_cast<std::size_t>(order[0] * 2 + (order[1] > order[2] ? 1 : 0))];
  }
  for (const int count : counts) EXPECT_NEAR(count, 1000, 150);
}

TEST(Samples, LongestFirstKeepsTheOrderOfEquals) {
  const std::vector<TokenIds> samples{{1}, {1, 2, 3}, {2}, {4, 5, 6}};
  EXPECT_THAT(longest_first(samples), ElementsAre(1, 3, 0, 2));
}

TEST(Samples, BlocksHoldAllIdsInOrderExceptTheTail) {
  const std::vector<TokenIds> documents{{1, 2, 3}, {}, {4}, {5, 6, 7, 8, 9, 10}};
  EXPECT_THAT(concatenated_blocks(documents, 4),
              ElementsAre(ElementsAre(1, 2, 3, 4), ElementsAre(5, 6, 7, 8)));
  EXPECT_THAT(concatenated_blocks(documents, 1).size(), 10);
  EXPECT_TRUE(concatenated_blocks(documents, 11).empty());
}

TEST(Samples, TruncationCutsOnlyWhatIsTooLong) {
  std::vector<TokenIds> samples{{1, 2, 3}, {1}};
  truncate_samples(samples, 2);
  EXPECT_THAT(samples, ElementsAre(ElementsAre(1, 2), ElementsAre(1)));
}

TEST(Samples, TruncationCollatorCutsToTheShortestOfABatch) {
  const std::vector<TokenIds> samples{{1, 2, 3}, {4, 5}, {6, 7, 8, 9}};
  const std::vector<SampleBatch> batches = collate(samples, 2, Collator::kTruncation, 0);
  ASSERT_EQ(batches.size(), 2u);
  EXPECT_THAT(batches[0].ids, ElementsAre(ElementsAre(1, 2), ElementsAre(4, 5)));
  EXPECT_THAT(batches[0].lengths, ElementsAre(2, 2));
  EXPECT_THAT(batches[1].ids, ElementsAre(ElementsAre(6, 7, 8, 9)));
}

TEST(Samples, PaddingCollatorPadsToTheLongestAndCountsRealTokens) {
  const std::vector<TokenIds> samples{{1, 2, 3}, {4}};
  const std::vector<SampleBatch> batches = collate(samples, 2, Collator::kPadding, 99);
  EXPECT_THAT(batches[0].ids, ElementsAre(ElementsAre(1, 2, 3), ElementsAre(4, 99, 99)));
  EXPECT_THAT(batches[0].lengths, ElementsAre(3, 1));
  const std::vector<SampleBatch> fixed = collate(samples, 1, Collator::kTruncation, 9, 5);
  EXPECT_THAT(fixed[1].ids, ElementsAre(ElementsAre(4, 9, 9, 9, 9)));
  EXPECT_THAT(fixed[1].lengths, ElementsAre(1));
}

TEST(Samples, ShortDocumentBlocksSkipLongAndEmptyOnes) {
  const std::vector<TokenIds> documents{{1, 2}, {}, {3, 4, 5, 6}, {7, 8, 9}, {10}};
  EXPECT_THAT(short_document_blocks(documents, 3, 9),
              ElementsAre(ElementsAre(1, 2, 7), ElementsAre(8, 9, 10)));
  EXPECT_THAT(short_document_blocks(documents, 3, 2), ElementsAre(ElementsAre(1, 2, 7)));
}

}  // namespace
}  // namespace nibble
