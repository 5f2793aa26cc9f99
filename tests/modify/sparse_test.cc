// SPDX-License-Identifier: Apache-2.0
// Invariants of pruning.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "modify/gptq.h"
#include "modify/layers.h"
#include "modify/magnitude.h"
#include "modify/owl.h"
#include "modify/solver/mask.h"
#include "modify/solver/masked_solve.h"
#include "modify/solver/order.h"
#include "modify/sparsegpt.h"
#include "modify/wanda.h"

namespace nibble {
namespace {

using testing::correlated_inputs;
using testing::hessian_of;
using testing::layer_loss;
using testing::random_matrix;
using testing::row_losses;
using testing::same_bits;
using testing::total;
using testing::weight_like;

struct PrunedLayer {
  explicit PrunedLayer(std::int64_t rows = 40, std::int64_t cols = 96, double rho = 0.9,
                       std::uint64_t seed = 1)
      : weight(weight_like(rows, cols, seed + 50)),
        hessian(hessian_of(pool, correlated_inputs(8 * cols, cols, rho, seed))) {}
  ThreadPool pool{2};
  Matrix weight;
  Hessian hessian;

  std::vector<float> mean_square() const {
    std::vector<float> result;
    for (std::int64_t c = 0; c < weight.cols(); ++c) result.push_back(hessian.values.at(c, c));
    return result;
  }
  double lambda(double frac = 0.01) const { return solver::damping_lambda(hessian.values, frac); }
  Matrix metric(double frac = 0.01) const {
    Matrix m = hessian.values;
    for (std::int64_t c = 0; c < m.rows(); ++c) m.at(c, c) += static_cast<float>(lambda(frac));
    return m;
  }
};

PruneOptions options_for(const char* structure, double sparsity = 0.5) {
  PruneOptions options;
  options.pattern = parse_mask_structure(structure, sparsity).value();
  return options;
}

std::int64_t zeros(const Matrix& m) {
  return std::ranges::count(m.values(), 0.0f);
}

// Every m consecutive weights of a row hold exactly n zeros.
void expect_pattern(const Matrix& keep, int n, int m) {
  for (std::int64_t r = 0; r < keep.rows(); ++r) {
    for (std::int64_t c = 0; c < keep.cols(); c += m) {
      int count = 0;
      for (int i = 0; i < m; ++i) count += keep.at(r, c + i) == 0;
      ASSERT_EQ(count, n);
    }
  }
}

// Least squares on a support by elimination in fp64; returns the loss of the row.
double best_loss(const Matrix& metric, std::span<const float> w, const std::vector<bool>& kept,
                 std::vector<double>* solution = nullptr) {
  const std::size_t n = w.size();
  const auto m = [&](std::size_t i, std::size_t j) {
    return static_cast<double>(metric.at(static_cast<std::int64_t>(i), static_cast<std::int64_t>(j)));
  };
  std::vector<std::size_t> support;
  for (std::size_t i = 0; i < n; ++i) {
    if (kept[i]) support.push_back(i);
  }
  const std::size_t k = support.size();
  std::vector<std::vector<double>> a(k, std::vector<double>(k + 1));
  for (std::size_t i = 0; i < k; ++i) {
    for (std::size_t j = 0; j < k; ++j) a[i][j] = m(support[i], support[j]);
    for (std::size_t j = 0; j < n; ++j) a[i][k] += m(support[i], j) * static_cast<double>(w[j]);
  }
  for (std::size_t p = 0; p < k; ++p) {
    for (std::size_t i = 0; i < k; ++i) {
      if (i == p) continue;
      const double factor = a[i][p] / a[p][p];
      for (std::size_t j = p; j <= k; ++j) a[i][j] -= factor * a[p][j];
    }
  }
  std::vector<double> e(w.begin(), w.end());
  for (std::size_t i = 0; i < k; ++i) e[support[i]] -= a[i][k] / a[i][i];
  if (solution != nullptr) {
    for (std::size_t i = 0; i < n; ++i) solution->push_back(static_cast<double>(w[i]) - e[i]);
  }
  double loss = 0;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) loss += e[i] * m(i, j) * e[j];
  }
  return loss;
}

TEST(MaskTest, TwoOfFourIsTheBestOfSixPatterns42) {
  PrunedLayer layer;
  const Matrix scores = wanda_scores(layer.pool, layer.weight, layer.mean_square());
  const Matrix keep =
      wanda_mask(layer.pool, layer.weight, layer.mean_square(), {.zeros = 2, .group = 4}).value();
  expect_pattern(keep, 2, 4);
  for (std::int64_t r = 0; r < 40; ++r) {
    for (std::int64_t c = 0; c < 96; c += 4) {
      float best = 0, found = 0;
      for (std::int64_t i = 0; i < 4; ++i) {
        found += keep.at(r, c + i) * scores.at(r, c + i);
        for (std::int64_t j = 0; j < i; ++j) best = std::max(best, scores.at(r, c + j) + scores.at(r, c + i));
      }
      EXPECT_FLOAT_EQ(found, best);
    }
  }
}

TEST(MaskTest, AnyPatternIsTheBestByEnumeration42) {
  PrunedLayer layer;
  for (const auto& [n, m] : std::vector<std::pair<int, int>>{{1, 4}, {4, 8}, {3, 6}, {5, 8}}) {
    const Matrix keep =
        magnitude_mask(layer.pool, layer.weight, std::to_string(n) + ":" + std::to_string(m), 0).value();
    expect_pattern(keep, n, m);
    for (std::int64_t c = 0; c < 96; c += m) {
      double best = 0, found = 0;
      for (unsigned bits = 0; bits < 1u << m; ++bits) {
        if (std::popcount(bits) != m - n) continue;
        double sum = 0;
        for (int i = 0; i < m; ++i)
          sum += (bits >> i & 1u) * std::fabs(static_cast<double>(layer.weight.at(3, c + i)));
        best = std::max(best, sum);
      }
      for (int i = 0; i < m; ++i)
        found += static_cast<double>(keep.at(3, c + i) * std::fabs(layer.weight.at(3, c + i)));
      EXPECT_NEAR(found, best, 1e-6);
    }
  }
}

// Widths that fill the lanes of the fast path, leave a rest, and end in a group that is not full.
TEST(MaskTest, GroupsKeepTheirLargestByRank) {
  ThreadPool pool(2);
  for (const int group : {2, 4, 8, 16}) {
    for (const std::int64_t cols : {256, 300, 130}) {
      Matrix scores = random_matrix(3, cols, 11);
      for (float& v : scores.values()) v = std::round(v * 2) / 2;  // ties
      for (const int zeros : {1, group / 2, group - 1}) {
        const Matrix keep = solver::keep_largest_in_groups(pool, scores, zeros, group);
        for (std::int64_t r = 0; r < 3; ++r) {
          for (std::int64_t begin = 0; begin < cols; begin += group) {
            std::vector<std::int64_t> order;
            for (std::int64_t c = begin; c < std::min(begin + group, cols); ++c) order.push_back(c);
            // Of equal scores the first is the larger.
            std::ranges::stable_sort(order,
                                     [&](auto a, auto b) { return scores.at(r, a) > scores.at(r, b); });
            const auto kept = static_cast<std::ptrdiff_t>(order.size()) - zeros;
            for (std::ptrdiff_t i = 0; i < std::ssize(order); ++i)
              EXPECT_EQ(keep.at(r, order[static_cast<std::size_t>(i)]), i < kept ? 1.0f : 0.0f)
                  << group << " " << cols;
          }
        }
      }
    }
  }
}

TEST(MaskTest, OfEqualWeightsTheFirstStayInAGroup) {
  ThreadPool pool(1);
  Matrix w(1, 8);
  for (std::int64_t c = 0; c < 8; ++c) w.at(0, c) = c == 6 ? -2.0f : 1.0f;
  const Matrix keep = magnitude_mask(pool, w, "2:4", 0).value();
  const float expected[] = {1, 1, 0, 0, 1, 0, 1, 0};
  for (std::int64_t c = 0; c < 8; ++c) EXPECT_EQ(keep.at(0, c), expected[c]);
}

TEST(MaskTest, CountsAreExact43) {
  for (const double sparsity : {0.0, 0.1234, 0.5, 0.7, 0.999}) {
    PrunedLayer layer(37, 80);
    const auto expected = std::llround(37 * 80 * sparsity);
    EXPECT_EQ(zeros(magnitude_mask(layer.pool, layer.weight, "unstructured", sparsity).value()), expected);
    for (const int iterations : {0, 6}) {
      PruneOptions options = options_for("0:0", sparsity);
      options.mask_iterations = iterations;
      const SparsityResult result = prune(layer.pool, layer.weight, layer.hessian, options).value();
      EXPECT_EQ(zeros(result.keep), expected);
      EXPECT_EQ(zeros(result.weight), expected);
    }
  }
}

TEST(MaskTest, RankSelectionEqualsSorting) {
  ThreadPool pool(3);
  Matrix m = random_matrix(300, 400, 9);
  for (float& value : m.values()) value = std::fabs(value) < 0.2f ? 0.125f : std::fabs(value);
  std::vector<float> sorted(m.values().begin(), m.values().end());
  std::ranges::sort(sorted);
  for (const std::int64_t rank : {0, 5, 20000, 60001, 119999}) {
    solver::RankSelection selection(rank);
    for (int pass = 0; pass < 2; ++pass) {
      selection.count(pool, m.values());
      selection.narrow();
    }
    EXPECT_EQ(selection.value(), sorted[static_cast<std::size_t>(rank)]);
    EXPECT_EQ(selection.smaller(), std::ranges::lower_bound(sorted, selection.value()) - sorted.begin());
  }
}

TEST(MaskTest, MalformedStructuresAreErrors) {
  for (const char* text : {"", "2", "2:", ":4", "4:2", "a:b", "2:4x", "-1:4", "2:0"}) {
    EXPECT_FALSE(parse_mask_structure(text, 0.5).ok()) << text;
  }
  EXPECT_EQ(parse_mask_structure("8:16", 0.5)->target(), 0.5);
  EXPECT_FALSE(parse_mask_structure("0:0", 0.5)->is_structured());
  PrunedLayer layer(4, 30);
  const auto ragged = prune(layer.pool, layer.weight, layer.hessian, options_for("2:4"));
  ASSERT_FALSE(ragged.ok());
  EXPECT_NE(ragged.error().what.find("divisible by 4, found 30"), std::string::npos);
  EXPECT_FALSE(prune(layer.pool, layer.weight, layer.hessian, options_for("0:0", 1.0)).ok());
  EXPECT_FALSE(magnitude_mask(layer.pool, layer.weight, "columns", 0.5).ok());
}

TEST(WandaTest, EqualNormsMeanMagnitudeAndRowScaleIsFree44) {
  PrunedLayer layer;
  const std::vector<float> equal(96, 4.0f);
  const PrunePattern half{.sparsity = 0.5};
  const Matrix keep = wanda_mask(layer.pool, layer.weight, equal, half).value();
  for (std::int64_t r = 0; r < 40; ++r) {
    Matrix row(1, 96);
    std::ranges::copy(layer.weight.row(r), row.row(0).begin());
    EXPECT_TRUE(
        std::ranges::equal(magnitude_mask(layer.pool, row, "unstructured", 0.5)->row(0), keep.row(r)));
  }
  const Matrix before = wanda_mask(layer.pool, layer.weight, layer.mean_square(), half).value();
  for (std::int64_t r = 0; r < 40; ++r) {
    for (float& w : layer.weight.row(r)) w *= std::ldexp(1.0f, static_cast<int>(r % 7) - 3);
  }
  EXPECT_TRUE(same_bits(before, wanda_mask(layer.pool, layer.weight, layer.mean_square(), half).value()));
}

TEST(PruneTest, RemovingOneWeightCostsTheObsFormula45) {
  PrunedLayer layer(3, 24);
  const Matrix metric = layer.metric();
  const auto factor =
      solver::inverse_factor(layer.pool, layer.hessian.values, solver::natural_order(24), 0.01).value();
  for (std::int64_t j = 0; j < 24; j += 5) {
    double inverse = 0;
    for (std::int64_t k = 0; k < 24; ++k) inverse += std::pow(static_cast<double>(factor.u.at(k, j)), 2);
    std::vector<bool> kept(24, true);
    kept[static_cast<std::size_t>(j)] = false;
    const auto w = static_cast<double>(layer.weight.at(1, j));
    EXPECT_NEAR(best_loss(metric, layer.weight.row(1), kept) / (w * w / inverse), 1, 1e-4);
  }
}

TEST(PruneTest, SolveReachesTheLeastSquaresOnTheKeptWeights46) {
  PrunedLayer layer(6, 48);
  const Matrix metric = layer.metric();
  const Matrix keep = wanda_mask(layer.pool, layer.weight, layer.mean_square(), {.sparsity = 0.5}).value();
  Matrix solution = layer.weight;
  solver::masked_solve(layer.pool, layer.weight, metric, keep, 200, solution);
  const std::vector<double> losses = row_losses(solution, layer.weight, layer.hessian.values, layer.lambda());
  for (std::int64_t r = 0; r < 6; ++r) {
    std::vector<bool> kept;
    for (const float k : keep.row(r)) kept.push_back(k != 0);
    std::vector<double> exact;
    EXPECT_NEAR(losses[static_cast<std::size_t>(r)] / best_loss(metric, layer.weight.row(r), kept, &exact), 1,
                1e-4);
    for (std::int64_t c = 0; c < 48; ++c) {
      EXPECT_NEAR(static_cast<double>(solution.at(r, c)), exact[static_cast<std::size_t>(c)], 1e-4);
    }
  }
}

TEST(PruneTest, LeastSquaresBeatsTheRecursionBeatsZeroing47) {
  PrunedLayer layer(60, 96);
  for (const char* structure : {"0:0", "2:4"}) {
    PruneOptions options = options_for(structure);
    options.mask_iterations = options.solve_iterations = 0;
    const SparsityResult recursion = prune(layer.pool, layer.weight, layer.hessian, options).value();
    options.solve_iterations = 60;
    const SparsityResult solved = prune(layer.pool, layer.weight, layer.hessian, options).value();
    EXPECT_TRUE(same_bits(recursion.keep, solved.keep));
    const std::vector<double> a =
        row_losses(solved.weight, layer.weight, layer.hessian.values, layer.lambda());
    const std::vector<double> b =
        row_losses(recursion.weight, layer.weight, layer.hessian.values, layer.lambda());
    for (std::size_t r = 0; r < a.size(); ++r) EXPECT_LE(a[r], b[r] * (1 + 1e-4));
    EXPECT_LT(total(a), 0.95 * total(b));
    EXPECT_LT(total(b), layer_loss(masked(layer.weight, recursion.keep), layer.weight, layer.metric()));
  }
}

TEST(PruneTest, AdmmMaskBeatsTheRecursionsMask) {
  for (const char* structure : {"0:0", "2:4", "4:8"}) {
    PrunedLayer layer(64, 96, 0.8, 5);
    PruneOptions options = options_for(structure);
    const double ours = prune(layer.pool, layer.weight, layer.hessian, options)->loss;
    options.mask_iterations = 0;
    const double same_mask = prune(layer.pool, layer.weight, layer.hessian, options)->loss;
    const SparsityResult reference =
        sparsegpt_reference(layer.pool, layer.weight, layer.hessian, options).value();
    EXPECT_LT(ours, 0.97 * same_mask) << structure;
    EXPECT_LT(ours, 0.85 * layer_loss(reference.weight, layer.weight, layer.hessian.values)) << structure;
  }
}

TEST(PruneTest, MaskOfTheCallerIsKept) {
  PrunedLayer layer;
  const Matrix keep = wanda_mask(layer.pool, layer.weight, layer.mean_square(), {.sparsity = 0.6}).value();
  PruneOptions options = options_for("0:0", 0.6);
  options.mask = &keep;
  const SparsityResult result = prune(layer.pool, layer.weight, layer.hessian, options).value();
  EXPECT_TRUE(same_bits(nonzero_mask(result.weight), keep));
  EXPECT_LT(result.loss, 0.8 * layer_loss(masked(layer.weight, keep), layer.weight, layer.hessian.values));
}

TEST(PruneTest, PreservedZerosStay) {
  for (const char* structure : {"0:0", "2:4"}) {
    PrunedLayer layer;
    Rng rng(3);
    for (float& w : layer.weight.values()) w *= rng.uniform() < 0.3 ? 0.0f : 1.0f;
    PruneOptions options = options_for(structure);
    options.preserve_sparsity_mask = true;
    const SparsityResult result = prune(layer.pool, layer.weight, layer.hessian, options).value();
    for (std::int64_t i = 0; i < 40 * 96; ++i)
      ASSERT_TRUE(layer.weight.data()[i] != 0 || result.weight.data()[i] == 0);
    if (options.pattern.is_structured()) {
      EXPECT_GE(zeros(result.weight), 40 * 48);
    } else {
      EXPECT_EQ(zeros(result.weight), 40 * 48);
    }
  }
  PrunedLayer layer;
  for (std::int64_t i = 0; i < 40 * 60; ++i) layer.weight.data()[i] = 0;
  PruneOptions options = options_for("0:0");
  options.preserve_sparsity_mask = true;
  const auto result = prune(layer.pool, layer.weight, layer.hessian, options);
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().what.find("62.50 %"), std::string::npos);
}

TEST(PruneTest, ResultDoesNotDependOnThreads) {
  PrunedLayer layer(150, 96);
  ThreadPool one(1), four(4);
  for (const char* structure : {"0:0", "2:4"}) {
    const SparsityResult a = prune(one, layer.weight, layer.hessian, options_for(structure)).value();
    const SparsityResult b = prune(four, layer.weight, layer.hessian, options_for(structure)).value();
    EXPECT_TRUE(same_bits(a.weight, b.weight));
  }
}

TEST(PruneTest, NearTheOptimumByEnumeration49) {
  double ratio = 0;
  int rows = 0;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    PrunedLayer layer(8, 8, 0.7, seed);
    const Matrix metric = layer.metric();
    PruneOptions options = options_for("4:8");
    options.solve_iterations = 50;
    const SparsityResult result = prune(layer.pool, layer.weight, layer.hessian, options).value();
    const std::vector<double> ours =
        row_losses(result.weight, layer.weight, layer.hessian.values, layer.lambda());
    for (std::int64_t r = 0; r < 8; ++r, ++rows) {
      double best = 1e99;
      for (unsigned bits = 0; bits < 256; ++bits) {
        if (std::popcount(bits) != 4) continue;
        std::vector<bool> kept(8);
        for (unsigned i = 0; i < 8; ++i) kept[i] = bits >> i & 1u;
        best = std::min(best, best_loss(metric, layer.weight.row(r), kept));
      }
      EXPECT_GE(ours[static_cast<std::size_t>(r)], best * (1 - 1e-3));
      ratio += ours[static_cast<std::size_t>(r)] / best;
    }
  }
  EXPECT_LT(ratio / rows, 1.05);
}

TEST(SwapTest, LossFallsToAOneSwapOptimum48) {
  for (const PrunePattern& pattern : {PrunePattern{.sparsity = 0.5}, PrunePattern{.zeros = 2, .group = 4}}) {
    PrunedLayer layer(12, 12, 0.9);
    Matrix keep = wanda_mask(layer.pool, layer.weight, layer.mean_square(), pattern).value();
    const auto loss = [&](std::int64_t r) {
      return row_losses(masked(layer.weight, keep), layer.weight,
                        layer.hessian.values)[static_cast<std::size_t>(r)];
    };
    std::vector<double> before;
    for (std::int64_t r = 0; r < 12; ++r) before.push_back(loss(r));
    improve_mask(layer.pool, layer.weight, layer.hessian.values, pattern, {.candidates = 0}, keep);
    if (pattern.is_structured()) expect_pattern(keep, 2, 4);
    EXPECT_EQ(zeros(keep), 72);
    double gain = 0;
    for (std::int64_t r = 0; r < 12; ++r) {
      const double now = loss(r);
      EXPECT_LE(now, before[static_cast<std::size_t>(r)] * (1 + 1e-6));
      gain += before[static_cast<std::size_t>(r)] - now;
      for (std::int64_t p = 0; p < 12; ++p) {
        for (std::int64_t k = 0; k < 12; ++k) {
          if (keep.at(r, p) != 0 || keep.at(r, k) == 0) continue;
          if (pattern.is_structured() && p / 4 != k / 4) continue;
          std::swap(keep.at(r, p), keep.at(r, k));
          EXPECT_GE(loss(r), now * (1 - 1e-4));
          std::swap(keep.at(r, p), keep.at(r, k));
        }
      }
    }
    EXPECT_GT(gain, 0);
  }
}

TEST(SwapTest, FewCandidatesFindMostOfTheGain) {
  PrunedLayer layer(32, 96, 0.9);
  const PrunePattern pattern{.sparsity = 0.5};
  const Matrix start = wanda_mask(layer.pool, layer.weight, layer.mean_square(), pattern).value();
  const auto loss = [&](const Matrix& keep) {
    return layer_loss(masked(layer.weight, keep), layer.weight, layer.hessian.values);
  };
  Matrix few = start, all = start;
  improve_mask(layer.pool, layer.weight, layer.hessian.values, pattern, {}, few);
  improve_mask(layer.pool, layer.weight, layer.hessian.values, pattern, {.candidates = 0}, all);
  EXPECT_LT(loss(few), 0.8 * loss(start));
  EXPECT_LT(loss(few), 1.1 * loss(all));
}

TEST(OwlTest, MeanAndRangeHold50) {
  Rng rng(1);
  std::vector<double> scores(12);
  for (double& s : scores) s = rng.uniform() * 7;
  for (const bool owl : {true, false}) {
    const std::vector<double> result =
        owl ? owl_sparsities(scores, 0.6, 0.08).value() : dlp_sparsities(scores, 0.6, 0.08).value();
    double mean = 0;
    for (const double s : result) {
      mean += s / 12;
      EXPECT_GE(s, 0.6 - 0.16);
      EXPECT_LE(s, 0.6 + 0.16);
    }
    EXPECT_NEAR(mean, 0.6, 1e-6);
    const auto [low, high] = std::ranges::minmax(result);
    EXPECT_NEAR(high - low, 0.16, 1e-9);
    // OWL protects layers with many outliers; DLP prunes layers with a large sum over median more.
    const auto most = static_cast<std::size_t>(std::ranges::max_element(scores) - scores.begin());
    EXPECT_EQ(result[most], owl ? low : high);
  }
  const std::vector<double> equal(5, 3.0);
  const std::vector<double> uniform(5, 0.7);
  EXPECT_EQ(owl_sparsities(equal, 0.7, 0.08).value(), uniform);
  EXPECT_EQ(dlp_sparsities(equal, 0.7, 0.08).value(), uniform);
  EXPECT_FALSE(owl_sparsities(scores, 0.95, 0.2).ok());
}

TEST(OwlTest, RatioCountsScoresFarAboveTheMean) {
  Matrix w(2, 10);
  for (float& value : w.values()) value = 1;
  w.at(1, 3) = -100;
  const std::vector<float> ones(10, 1.0f);
  const ScoredWeight scored{.weight = &w, .activation = ones};
  EXPECT_DOUBLE_EQ(outlier_ratio({&scored, 1}, 5), 100.0 / 20);
  EXPECT_DOUBLE_EQ(median_importance({&scored, 1}), 119);
  const std::vector<ScoredWeight> twice{scored, scored};
  EXPECT_DOUBLE_EQ(outlier_ratio(twice, 5), 5);
}

TEST(MagnitudeTest, WholeRowsColumnsAndBlocks) {
  ThreadPool pool(2);
  const Matrix w = random_matrix(8, 12, 4);
  const Matrix rows = magnitude_mask(pool, w, "filter", 0.25).value();
  EXPECT_EQ(zeros(rows), 24);
  for (std::int64_t r = 0; r < 8; ++r) EXPECT_EQ(rows.at(r, 0), rows.at(r, 11));
  const Matrix columns = magnitude_mask(pool, w, "channel", 0.5).value();
  EXPECT_EQ(zeros(columns), 48);
  for (std::int64_t c = 0; c < 12; ++c) {
    for (std::int64_t r = 1; r < 8; ++r) EXPECT_EQ(columns.at(r, c), columns.at(0, c));
  }
  const Matrix blocks = magnitude_mask(pool, w, "block_4,1", 0.5).value();
  EXPECT_EQ(zeros(blocks), 48);
  for (std::int64_t c = 0; c < 12; ++c) EXPECT_EQ(blocks.at(0, c), blocks.at(3, c));
}

TEST(MagnitudeTest, GlobalThresholdCountsOverAllWeights) {
  ThreadPool pool(2);
  const Matrix a = random_matrix(30, 40, 1, 1.0), b = random_matrix(20, 50, 2, 0.1);
  GlobalMagnitude global(2200, 0.5);
  for (int pass = 0; pass < 2; ++pass) {
    global.add(pool, a);
    global.add(pool, b);
    global.next_pass();
  }
  const Matrix keep_a = global.mask(a), keep_b = global.mask(b);
  EXPECT_EQ(zeros(keep_a) + zeros(keep_b), 1100);
  EXPECT_GT(zeros(keep_b), 900);
  float largest_pruned = 0, smallest_kept = 1e9f;
  for (const auto& [w, keep] : {std::pair{&a, &keep_a}, std::pair{&b, &keep_b}}) {
    for (std::int64_t i = 0; i < w->rows() * w->cols(); ++i) {
      const float size = std::fabs(w->data()[i]);
      if (keep->data()[i] == 0) {
        largest_pruned = std::max(largest_pruned, size);
      } else {
        smallest_kept = std::min(smallest_kept, size);
      }
    }
  }
  EXPECT_LE(largest_pruned, smallest_kept);
}

TEST(JointTest, PruneThenQuantize54) {
  PrunedLayer layer(48, 96, 0.8);
  const SparsityResult sparse = prune(layer.pool, layer.weight, layer.hessian, options_for("2:4")).value();
  QuantizationArgs args;
  args.num_bits = 4;
  args.strategy = Strategy::kGroup;
  args.group_size = 32;
  ASSERT_TRUE(args.validate("weights").ok());
  GptqOptions options;
  options.keep = &sparse.keep;
  const GptqResult joint = gptq(layer.pool, sparse.weight, layer.hessian, args, options).value();
  for (std::int64_t i = 0; i < 48 * 96; ++i)
    ASSERT_TRUE(sparse.keep.data()[i] != 0 || joint.weight.data()[i] == 0);
  const double loss = layer_loss(joint.weight, layer.weight, layer.hessian.values);
  EXPECT_LT(loss, 1.6 * sparse.loss);
  // Rounding after pruning, and a mask on a quantized layer, are both far worse.
  const GptqResult rounded =
      round_to_nearest(layer.pool, sparse.weight, layer.hessian, args, options).value();
  EXPECT_LT(loss, layer_loss(rounded.weight, layer.weight, layer.hessian.values));
  const GptqResult dense = gptq(layer.pool, layer.weight, layer.hessian, args, {}).value();
  EXPECT_LT(loss, layer_loss(masked(dense.weight, sparse.keep), layer.weight, layer.hessian.values));
  // Without pruned weights it is GPTQ.
  Matrix ones(48, 96);
  std::ranges::fill(ones.values(), 1.0f);
  options.keep = &ones;
  EXPECT_TRUE(same_bits(gptq(layer.pool, layer.weight, layer.hessian, args, options)->codes, dense.codes));
  // With fine codes it is pruning.
  args.num_bits = 8;
  options.keep = &sparse.keep;
  const GptqResult fine = gptq(layer.pool, sparse.weight, layer.hessian, args, options).value();
  EXPECT_NEAR(layer_loss(fine.weight, layer.weight, layer.hessian.values) / sparse.loss, 1, 2e-3);
}

}  // namespace
}  // namespace nibble
