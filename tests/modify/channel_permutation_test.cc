// SPDX-License-Identifier: Apache-2.0
// The order of channels for N:M: a permutation, never worse, the same for any threads, and no single swap
// improves it. Shares of sparsity by divergence: the mean holds, bounds hold, dearer blocks keep more.
#include "modify/channel_permutation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/rng.h"
#include "modify/owl.h"

namespace nibble {
namespace {

// Columns of very different importance, as activations have them.
Matrix scores_of(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  Matrix scores(rows, cols);
  Rng rng(seed);
  std::vector<float> size(static_cast<std::size_t>(cols));
  for (float& s : size) s = std::exp(1.5F * static_cast<float>(rng.normal()));
  std::ranges::sort(size);  // neighbours alike: the worst order to start from
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c)
      scores.at(r, c) = std::fabs(static_cast<float>(rng.normal())) * size[static_cast<std::size_t>(c)];
  }
  return scores;
}

TEST(ChannelPermutationTest, IsAPermutationThatRetainsMoreWhateverTheThreads) {
  for (const auto& [zeros, group] : {std::pair{2, 4}, {4, 8}, {1, 4}, {3, 4}}) {
    const PrunePattern pattern{.sparsity = 0, .zeros = zeros, .group = group};
    const Matrix scores = scores_of(24, 64, 7);
    ThreadPool one(1), four(4);
    const ChannelOrder order = find_channel_order(one, scores, pattern, 10);
    EXPECT_EQ(order, find_channel_order(four, scores, pattern, 10));
    ChannelOrder sorted = order;
    std::ranges::sort(sorted);
    ChannelOrder all(64);
    std::iota(all.begin(), all.end(), std::int64_t{0});
    EXPECT_EQ(sorted, all);
    EXPECT_GT(retained_importance(scores, pattern, order), 1.01 * retained_importance(scores, pattern));
  }
}

TEST(ChannelPermutationTest, MoreRoundsNeverRetainLessAndTheEndIsALocalOptimum) {
  const PrunePattern pattern{.sparsity = 0, .zeros = 2, .group = 4};
  ThreadPool pool(2);
  for (std::uint64_t seed = 1; seed < 6; ++seed) {
    const Matrix scores = scores_of(9, 16, seed);
    double last = retained_importance(scores, pattern);
    for (const int rounds : {1, 2, 4, 200}) {
      const double now =
          retained_importance(scores, pattern, find_channel_order(pool, scores, pattern, rounds));
      EXPECT_GE(now, last) << seed;
      last = now;
    }
    const ChannelOrder order = find_channel_order(pool, scores, pattern, 200);
    for (std::size_t a = 0; a < order.size(); ++a) {
      for (std::size_t b = 0; b < a; ++b) {
        ChannelOrder other = order;
        std::swap(other[a], other[b]);
        EXPECT_LE(retained_importance(scores, pattern, other), last * (1 + 1e-5)) << seed;
      }
    }
  }
}

TEST(ChannelPermutationTest, WhatCompetesForNothingStays) {
  ThreadPool pool(1);
  const PrunePattern pattern{.sparsity = 0, .zeros = 2, .group = 4};
  ChannelOrder identity{0, 1, 2, 3};
  EXPECT_EQ(find_channel_order(pool, scores_of(3, 4, 1), pattern, 5), identity);
  EXPECT_EQ(find_channel_order(pool, Matrix(3, 4), pattern, 5), identity);
}

TEST(KlSparsitiesTest, KeepTheMeanTheBoundsAndTheOrder) {
  const std::vector<double> divergences{0.5, 0.001, 0.02, 0.02, 0.0, 3.0};
  const std::vector<double> weights{1, 2, 1, 1, 3, 1};
  for (const double lmbda : {0.0, 0.05, 0.2}) {
    const std::vector<double> shares = kl_sparsities(divergences, weights, 0.6, lmbda);
    double sum = 0;
    for (std::size_t i = 0; i < shares.size(); ++i) {
      EXPECT_GE(shares[i], 0.6 - lmbda - 1e-12);
      EXPECT_LE(shares[i], 0.6 + lmbda + 1e-12);
      sum += weights[i] * shares[i];
      for (std::size_t j = 0; j < shares.size(); ++j) {
        if (divergences[i] < divergences[j]) {
          EXPECT_GE(shares[i], shares[j]);
        }
      }
    }
    EXPECT_NEAR(sum / 9, 0.6, 1e-9) << lmbda;
    EXPECT_EQ(shares[2], shares[3]);
  }
  // Equal marginal costs: e times the divergence is 0.1 less sparsity.
  const std::vector<double> two =
      kl_sparsities(std::vector{std::exp(1.0), 1.0}, std::vector{1.0, 1.0}, 0.5, 0.2);
  EXPECT_NEAR(two[1] - two[0], 0.1, 1e-9);
  EXPECT_EQ(kl_sparsities(std::vector{1.0, 2.0}, std::vector{1.0, 1.0}, 1.0, 0.1).size(), 2u);
}

}  // namespace
}  // namespace nibble
