// SPDX-License-Identifier: Apache-2.0
#include "modify/refine.h"

#include <gtest/gtest.h>

#include "modify/gptq.h"
#include "modify/layers.h"
#include "modify/magr.h"
#include "modify/solver/scale_search.h"

namespace nibble {
namespace {

using testing::correlated_inputs;
using testing::hessian_of;
using testing::row_losses;
using testing::weight_like;

struct Problem {
  Problem() {
    args.num_bits = 3;
    args.strategy = Strategy::kGroup;
    args.group_size = 16;
    EXPECT_TRUE(args.validate("weights").ok());
    hessian = hessian_of(pool, correlated_inputs(400, 48, 0.9, 1));
    for (std::int64_t c = 0; c < 48; ++c) hessian.values.at(c, c) *= 1.01f;
    weight = weight_like(20, 48, 2);
    grid = solver::layer_grid(args, 20, 48, DType::kF32, 0).value();
    const GptqResult rtn = round_to_nearest(pool, weight, hessian, args, {}).value();
    codes = rtn.codes;
    quantized = rtn.weight;
    params = rtn.params;
  }
  std::vector<double> losses() const { return row_losses(quantized, weight, hessian.values); }
  void run(const RefineOptions& options) {
    refine(pool, weight, hessian.values, grid, nullptr, options, codes, quantized, params);
  }
  ThreadPool pool{2};
  QuantizationArgs args;
  Hessian hessian;
  Matrix weight, codes, quantized;
  QuantParams params;
  solver::LayerGrid grid;
};

TEST(RefineTest, NoRoundRaisesTheLossOfAnyRow25) {
  Problem problem;
  std::vector<double> before = problem.losses();
  for (int round = 0; round < 4; ++round) {
    problem.run({.rounds = 1, .sweeps = 1, .refit_scales = round % 2 == 1});
    const std::vector<double> after = problem.losses();
    for (std::size_t r = 0; r < after.size(); ++r) EXPECT_LE(after[r], before[r] * (1 + 1e-5));
    before = after;
  }
}

TEST(RefineTest, FixedPointIsOptimalInEveryCoordinate25) {
  Problem problem;
  problem.run({.rounds = 1, .sweeps = 50, .refit_scales = false});
  const std::vector<double> now = problem.losses();
  for (std::int64_t r = 0; r < 20; ++r) {
    for (std::int64_t c = 0; c < 48; ++c) {
      const float old = problem.quantized.at(r, c);
      for (int code = -4; code <= 3; ++code) {
        problem.quantized.at(r, c) = static_cast<float>(code) * problem.params.scale.at(r, c / 16);
        const double loss = row_losses(problem.quantized, problem.weight,
                                       problem.hessian.values)[static_cast<std::size_t>(r)];
        ASSERT_GE(loss, now[static_cast<std::size_t>(r)] * (1 - 1e-5));
      }
      problem.quantized.at(r, c) = old;
    }
    if (r == 3) break;  // four rows are 4 * 48 * 8 evaluations
  }
}

TEST(RefineTest, RefitLowersTheLoss26) {
  Problem problem;
  const double before = testing::total(problem.losses());
  problem.run({.rounds = 1, .sweeps = 0, .refit_scales = true});
  EXPECT_LT(testing::total(problem.losses()), 0.99 * before);
}

TEST(RefineTest, RefitOfWeightsOnTheGridFindsTheScale26) {
  Problem problem;
  problem.weight = problem.quantized;
  const Matrix scales = problem.params.scale;
  for (std::int64_t r = 0; r < 20; ++r) {
    for (std::int64_t g = 0; g < 3; ++g) problem.params.scale.at(r, g) *= g == 1 ? 1.1f : 1.0f;
    for (std::int64_t c = 16; c < 32; ++c) problem.quantized.at(r, c) *= 1.1f;
  }
  problem.run({.rounds = 40, .sweeps = 0, .refit_scales = true});  // one scale at a time: linear convergence
  for (std::int64_t r = 0; r < 20; ++r) EXPECT_NEAR(problem.params.scale.at(r, 1) / scales.at(r, 1), 1, 1e-5);
}

TEST(RefineTest, CodesAndScalesStayConsistent) {
  Problem problem;
  problem.run({});
  for (std::int64_t r = 0; r < 20; ++r) {
    for (std::int64_t c = 0; c < 48; ++c) {
      ASSERT_EQ(problem.quantized.at(r, c), problem.codes.at(r, c) * problem.params.scale.at(r, c / 16));
    }
  }
}

// prox of t * ||.||_inf by brute force over the clipping level.
TEST(MagrTest, ShrinkPeaksIsTheProximalStep29) {
  for (const double threshold : {0.1, 1.0, 5.0, 100.0}) {
    const Matrix v = testing::random_matrix(1, 20, 3);
    std::vector<float> found(v.values().begin(), v.values().end());
    shrink_peaks(found, threshold);
    const auto cost = [&](const std::vector<float>& x) {
      double sum = 0, peak = 0;
      for (std::size_t i = 0; i < 20; ++i) {
        const double d = static_cast<double>(x[i]) - static_cast<double>(v.values()[i]);
        sum += d * d / 2;
        peak = std::max(peak, std::fabs(static_cast<double>(x[i])));
      }
      return sum + threshold * peak;
    };
    double best = 1e9;
    for (int i = 0; i <= 30000; ++i) {
      const float level = static_cast<float>(i) * 1e-4f;
      std::vector<float> x(v.values().begin(), v.values().end());
      for (float& value : x) value = std::clamp(value, -level, level);
      best = std::min(best, cost(x));
    }
    EXPECT_NEAR(cost(found), best, 1e-5 * best);
  }
}

TEST(MagrTest, PeaksFallAndOutputsHardlyChange29) {
  Problem problem;
  double before = 1e99;
  double size = testing::total(row_losses(problem.weight, Matrix(20, 48), problem.hessian.values));
  for (const int iterations : {1, 5, 20, 60}) {
    const Matrix calm = reduce_magnitudes(problem.pool, problem.weight, problem.hessian.values,
                                          problem.grid.units, {.strength = 1e-3, .iterations = iterations});
    double diagonal = 0, peaks = 0, peaks_before = 0;
    for (std::int64_t c = 0; c < 48; ++c)
      diagonal += static_cast<double>(problem.hessian.values.at(c, c)) / 48;
    for (std::int64_t r = 0; r < 20; ++r) {
      for (std::int64_t g = 0; g < 3; ++g) {
        float peak = 0, old = 0;
        for (std::int64_t c = 16 * g; c < 16 * g + 16; ++c) {
          peak = std::max(peak, std::fabs(calm.at(r, c)));
          old = std::max(old, std::fabs(problem.weight.at(r, c)));
        }
        peaks += static_cast<double>(peak);
        peaks_before += static_cast<double>(old);
      }
    }
    const double change = testing::total(row_losses(calm, problem.weight, problem.hessian.values));
    const double objective = change / 2 + 1e-3 * diagonal * peaks;
    EXPECT_LE(objective, before * (1 + 1e-6));
    EXPECT_LT(peaks, peaks_before);
    EXPECT_LT(change, 0.02 * size);
    before = objective;
  }
}

}  // namespace
}  // namespace nibble
