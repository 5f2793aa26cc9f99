// SPDX-License-Identifier: Apache-2.0
// Invariants of AWQ, of its folds and of SmoothQuant.
#include "modify/awq.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "codec/activation_quantizer.h"
#include "modify/gptq.h"
#include "modify/layers.h"
#include "modify/smooth_fold.h"
#include "modify/smoothquant.h"
#include "modify/solver/loss.h"
#include "modify/solver/stored.h"

namespace nibble {
namespace {

using testing::correlated_inputs;
using testing::hessian_of;
using testing::random_matrix;
using testing::same_bits;
using testing::weight_like;

QuantizationArgs group_args(int bits = 4, bool symmetric = false) {
  QuantizationArgs args;
  args.num_bits = bits;
  args.symmetric = symmetric;
  args.strategy = Strategy::kGroup;
  args.group_size = 32;
  EXPECT_TRUE(args.validate("weights").ok());
  return args;
}

std::vector<float> abs_means(const Matrix& x) {
  std::vector<float> means(static_cast<std::size_t>(x.cols()));
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    for (std::int64_t c = 0; c < x.cols(); ++c) {
      means[static_cast<std::size_t>(c)] += std::fabs(x.at(t, c)) / static_cast<float>(x.rows());
    }
  }
  return means;
}

struct Pair {
  Pair()
      : x(correlated_inputs(800, 96, 0.5, 1)),
        q(weight_like(64, 96, 2)),
        k(weight_like(32, 96, 3)),
        args(group_args()) {
    // A few loud channels, which is what AWQ is for.
    for (std::int64_t t = 0; t < x.rows(); ++t) {
      for (const std::int64_t c : {5, 40, 77}) x.at(t, c) *= 20;
    }
    hessian = hessian_of(pool, x);
    layers = {{.weight = &q, .args = &args}, {.weight = &k, .args = &args}};
  }
  ThreadPool pool{2};
  Matrix x, q, k;
  QuantizationArgs args;
  Hessian hessian;
  std::vector<BalanceLayer> layers;
};

TEST(AwqTest, CandidatesAreThoseOfTheReference) {
  const auto on = awq_candidates(DuoScaling::kOn, 20).value();
  ASSERT_EQ(on.size(), 20u);
  EXPECT_FALSE(on[0].duo);
  EXPECT_TRUE(on[1].duo);
  EXPECT_EQ(on[1].ratio, 0);
  EXPECT_EQ(on[2].ratio, 1.0 / 18);
  EXPECT_EQ(on[19].ratio, 1);
  const auto off = awq_candidates(DuoScaling::kOff, 20).value();
  ASSERT_EQ(off.size(), 20u);
  EXPECT_EQ(off[1].ratio, 1.0 / 19);
  const auto both = awq_candidates(DuoScaling::kBoth, 20).value();
  ASSERT_EQ(both.size(), 20u);
  EXPECT_FALSE(both[2].duo);
  EXPECT_TRUE(both[3].duo);
  EXPECT_EQ(both[3].ratio, 1.0 / 9);
  EXPECT_FALSE(awq_candidates(DuoScaling::kOn, 2).ok());
}

TEST(AwqTest, ScalesAreCentredAndFinite) {
  const std::vector<float> activation{0, 1e-9f, 1, 100}, weight{0.5f, 0.1f, 0.9f, 0.2f};
  const std::vector<AwqCandidate> candidates = awq_candidates(DuoScaling::kBoth, 20).value();
  for (const AwqCandidate& candidate : candidates) {
    const std::vector<float> scales = awq_scales(activation, weight, candidate);
    const auto [low, high] = std::ranges::minmax(scales);
    EXPECT_NEAR(low * high, 1, 1e-4);
    for (const float s : scales) EXPECT_TRUE(std::isfinite(s) && s > 0);
  }
  for (const float s : awq_scales(activation, weight, {})) EXPECT_EQ(s, 1);
  const std::vector<float> broken{std::numeric_limits<float>::infinity(), 1};
  for (const float s : awq_scales(broken, {}, {.ratio = 0.5})) EXPECT_TRUE(std::isfinite(s));
}

TEST(AwqTest, NoScalingIsRounding32) {
  Pair pair;
  const std::vector<float> ones(96, 1.0f);
  const std::vector<Matrix> simulated = awq_simulate(pair.pool, pair.layers, ones, DType::kF32).value();
  const GptqResult rtn = round_to_nearest(pair.pool, pair.q, pair.hessian, pair.args, {}).value();
  EXPECT_TRUE(same_bits(simulated[0], rtn.weight));
}

TEST(AwqTest, ChosenLossIsTheSmallestAndBelowNoScaling32) {
  Pair pair;
  const std::vector<float> means = abs_means(pair.x);
  const BalanceLoss loss = hessian_loss(pair.pool, pair.layers, pair.hessian);
  for (const DuoScaling duo : {DuoScaling::kOff, DuoScaling::kOn, DuoScaling::kBoth}) {
    const auto candidates = awq_candidates(duo, 20).value();
    const AwqChoice choice = awq_search(pair.pool, pair.layers, means, candidates, DType::kF32, loss).value();
    EXPECT_LT(choice.loss, 0.8 * choice.loss_without);
    const std::vector<float> weight_means = awq_weight_means(pair.layers, DType::kF32).value();
    for (const AwqCandidate& candidate : candidates) {
      const auto weights =
          awq_simulate(pair.pool, pair.layers, awq_scales(means, weight_means, candidate), DType::kF32)
              .value();
      EXPECT_GE(loss(weights).value(), choice.loss);
    }
  }
}

TEST(AwqTest, HessianLossIsTheOutputError) {
  Pair pair;
  const std::vector<float> scales = awq_scales(abs_means(pair.x), {}, {.ratio = 0.4});
  const std::vector<Matrix> weights = awq_simulate(pair.pool, pair.layers, scales, DType::kF32).value();
  double direct = 0;
  for (std::size_t i = 0; i < 2; ++i) {
    const Matrix& w = *pair.layers[i].weight;
    for (std::int64_t t = 0; t < pair.x.rows(); ++t) {
      for (std::int64_t r = 0; r < w.rows(); ++r) {
        double y = 0;
        for (std::int64_t c = 0; c < 96; ++c) {
          y += static_cast<double>(pair.x.at(t, c)) *
               (static_cast<double>(weights[i].at(r, c)) - static_cast<double>(w.at(r, c)));
        }
        direct += y * y / static_cast<double>(pair.x.rows());
      }
    }
  }
  EXPECT_NEAR(hessian_loss(pair.pool, pair.layers, pair.hessian)(weights).value() / direct, 1, 1e-4);
}

TEST(AwqTest, UnquantizedLayersTakeNoPart) {
  Pair pair;
  std::vector<BalanceLayer> with_router = pair.layers;
  const Matrix router = random_matrix(4, 96, 9);
  with_router.push_back({.weight = &router, .args = nullptr});
  EXPECT_EQ(awq_weight_means(pair.layers, DType::kF32).value(),
            awq_weight_means(with_router, DType::kF32).value());
  const std::vector<float> scales = awq_scales(abs_means(pair.x), {}, {.ratio = 0.4});
  EXPECT_TRUE(same_bits(awq_simulate(pair.pool, with_router, scales, DType::kF32).value()[2], router));
}

TEST(AwqTest, SiblingsShareTheirGlobalScale) {
  Pair pair;
  QuantizationArgs nvfp4;
  nvfp4.num_bits = 4;
  nvfp4.type = NumberType::kFloat;
  nvfp4.strategy = Strategy::kTensorGroup;
  nvfp4.group_size = 16;
  nvfp4.scale_dtype = nvfp4.zp_dtype = DType::kF8E4M3;
  ASSERT_TRUE(nvfp4.validate("weights").ok());
  for (float& w : pair.k.values()) w *= 30;
  const std::vector<float> ones(96, 1.0f);
  std::vector<BalanceLayer> layers{{.weight = &pair.q, .args = &nvfp4}, {.weight = &pair.k, .args = &nvfp4}};
  const Matrix together = awq_simulate(pair.pool, layers, ones, DType::kF32).value()[0];
  layers[1].siblings = 1;
  const Matrix apart = awq_simulate(pair.pool, layers, ones, DType::kF32).value()[0];
  const Matrix alone = awq_simulate(pair.pool, {layers.data(), 1}, ones, DType::kF32).value()[0];
  EXPECT_TRUE(same_bits(apart, alone));
  EXPECT_FALSE(same_bits(together, alone));
}

TEST(AwqTest, PerTensorSchemesHaveNoWeightMeans) {
  Pair pair;
  pair.args.strategy = Strategy::kTensor;
  const auto result = awq_weight_means(pair.layers, DType::kF32);
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().what.find("duo_scaling"), std::string::npos);
}

TEST(AwqTest, NoFiniteLossIsAnError) {
  Pair pair;
  const BalanceLoss broken = [](std::span<const Matrix>) -> Result<double> {
    return std::numeric_limits<double>::quiet_NaN();
  };
  EXPECT_FALSE(awq_search(pair.pool, pair.layers, abs_means(pair.x),
                          awq_candidates(DuoScaling::kOff, 5).value(), DType::kF32, broken)
                   .ok());
}

TEST(AwqTest, ClipNeverLosesAndUsuallyWins33) {
  Pair pair;
  for (const bool symmetric : {true, false}) {
    const QuantizationArgs args = group_args(3, symmetric);
    const QuantParams clipped = awq_clip(pair.pool, pair.q, pair.hessian, args, DType::kF32, 0, {}).value();
    GptqOptions options;
    const GptqResult plain = round_to_nearest(pair.pool, pair.q, pair.hessian, args, options).value();
    options.params = &clipped;
    const GptqResult result = round_to_nearest(pair.pool, pair.q, pair.hessian, args, options).value();
    double gained = 0;
    for (std::int64_t g = 0; g < 96; g += 32) {
      // The objective of a group: e_g H_gg e_g^T.
      Matrix block(96, 96);
      for (std::int64_t i = g; i < g + 32; ++i) {
        for (std::int64_t j = g; j < g + 32; ++j) block.at(i, j) = pair.hessian.values.at(i, j);
      }
      const auto before = solver::row_losses(pair.pool, plain.weight, pair.q, block);
      const auto after = solver::row_losses(pair.pool, result.weight, pair.q, block);
      for (std::size_t r = 0; r < before.size(); ++r) {
        EXPECT_LE(after[r], before[r] * (1 + 1e-4));
        gained += before[r] - after[r];
      }
    }
    EXPECT_GT(gained, 0.1 * plain.loss);
  }
}

TEST(AwqTest, ScalingComposesWithGptq) {
  Pair pair;
  const AwqChoice choice =
      awq_search(pair.pool, pair.layers, abs_means(pair.x), awq_candidates(DuoScaling::kOn, 20).value(),
                 DType::kF32, hessian_loss(pair.pool, pair.layers, pair.hessian))
          .value();
  Matrix scaled = pair.q, inputs = pair.x;
  scale_columns(pair.pool, choice.scales, DType::kF32, scaled);
  for (std::int64_t t = 0; t < inputs.rows(); ++t) {
    for (std::int64_t c = 0; c < 96; ++c) inputs.at(t, c) /= choice.scales[static_cast<std::size_t>(c)];
  }
  const Hessian after = hessian_of(pair.pool, inputs);
  // The same outputs, so the losses of both forms compare.
  EXPECT_NEAR(testing::layer_loss(scaled, Matrix(64, 96), after.values) /
                  testing::layer_loss(pair.q, Matrix(64, 96), pair.hessian.values),
              1, 1e-4);
  const double awq = round_to_nearest(pair.pool, scaled, after, pair.args, {})->loss;
  EXPECT_LT(gptq(pair.pool, scaled, after, pair.args, {})->loss, 0.6 * awq);
}

// y = W norm(x): dividing the norm and multiplying the columns changes nothing.
TEST(SmoothFoldTest, NormsWithAnyOffsetKeepTheOutputs31) {
  for (const float offset : {0.0f, 1.0f}) {
    const Matrix x = random_matrix(50, 24, 1);
    Matrix w = random_matrix(10, 24, 2);
    std::vector<float> norm(24), bias(24), scales(24);
    Rng rng(3);
    for (std::size_t c = 0; c < 24; ++c) {
      norm[c] = static_cast<float>(0.5 + rng.uniform()) - offset;
      bias[c] = static_cast<float>(rng.normal());
      scales[c] = static_cast<float>(std::exp(rng.normal()));
    }
    const auto outputs = [&] {
      Matrix y(50, 10);
      for (std::int64_t t = 0; t < 50; ++t) {
        for (std::int64_t r = 0; r < 10; ++r) {
          double sum = 0;
          for (std::size_t c = 0; c < 24; ++c) {
            const auto i = static_cast<std::int64_t>(c);
            sum += static_cast<double>(w.at(r, i)) *
                   (static_cast<double>(x.at(t, i)) *
                        (static_cast<double>(offset) + static_cast<double>(norm[c])) +
                    static_cast<double>(bias[c]));
          }
          y.at(t, r) = static_cast<float>(sum);
        }
      }
      return y;
    };
    const Matrix before = outputs();
    divide_norm(scales, offset, DType::kF32, norm, bias);
    ThreadPool pool(1);
    scale_columns(pool, scales, DType::kF32, w);
    const Matrix after = outputs();
    for (std::int64_t i = 0; i < 500; ++i) EXPECT_NEAR(before.data()[i], after.data()[i], 1e-4);
  }
}

TEST(SmoothFoldTest, RowsOfTheLayerBeforeKeepTheOutputs31) {
  // A fused layer: only its last 8 outputs feed the next one.
  Matrix first = random_matrix(24, 6, 1), second = random_matrix(5, 8, 2);
  std::vector<float> bias(24, 0.5f), scales(8);
  for (std::size_t c = 0; c < 8; ++c) scales[c] = 0.3f + static_cast<float>(c);
  const auto product = [&](std::int64_t r, std::int64_t c) {
    double sum = 0;
    for (std::int64_t k = 0; k < 8; ++k)
      sum += static_cast<double>(second.at(r, k)) * static_cast<double>(first.at(16 + k, c));
    return sum;
  };
  const auto bias_part = [&](std::int64_t r) {
    double sum = 0;
    for (std::int64_t k = 0; k < 8; ++k)
      sum +=
          static_cast<double>(second.at(r, k)) * static_cast<double>(bias[static_cast<std::size_t>(16 + k)]);
    return sum;
  };
  const Matrix untouched = first;
  const double before = product(2, 3), bias_before = bias_part(4);
  divide_rows(scales, DType::kF32, first, bias);
  ThreadPool pool(1);
  scale_columns(pool, scales, DType::kF32, second);
  EXPECT_NEAR(product(2, 3), before, 1e-5);
  EXPECT_NEAR(bias_part(4), bias_before, 1e-5);
  for (std::int64_t r = 0; r < 16; ++r) EXPECT_TRUE(std::ranges::equal(first.row(r), untouched.row(r)));
}

TEST(SmoothFoldTest, BadScalesAreNamed) {
  const std::vector<float> scales{1, 0, 2};
  const Status status = check_smooth_scales(scales, 3);
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().what.find("channel 1"), std::string::npos);
}

struct Outliers {
  Outliers() : x(random_matrix(256, 128, 1)), w(random_matrix(96, 128, 2, 0.05)) {
    for (std::int64_t t = 0; t < 256; ++t) {
      for (const std::int64_t c : {3, 60, 61, 100}) x.at(t, c) *= 300;
    }
    for (std::int64_t r = 0; r < 96; ++r) {
      for (const std::int64_t c : {3, 60, 61, 100}) w.at(r, c) *= 0.05f;
    }
    low.assign(128, 0);
    high.assign(128, 0);
    for (std::int64_t t = 0; t < 256; ++t) {
      for (std::size_t c = 0; c < 128; ++c) {
        low[c] = std::min(low[c], x.at(t, static_cast<std::int64_t>(c)));
        high[c] = std::max(high[c], x.at(t, static_cast<std::int64_t>(c)));
      }
    }
  }
  ThreadPool pool{2};
  Matrix x, w;
  std::vector<float> low, high;
};

TEST(SmoothQuantTest, HalfStrengthBalancesInputsAndWeights34) {
  Outliers data;
  const Matrix* weights[] = {&data.w};
  const auto activation = smooth_activation_scales(data.low, data.high, SmoothStatistic::kAbsMax);
  const auto weight = smooth_weight_scales(weights, SmoothStatistic::kAbsMax);
  const auto scales = smooth_scales(activation, weight, 0.5, SmoothAlgorithm::kSmoothQuant);
  for (std::size_t c = 0; c < 128; ++c) {
    EXPECT_NEAR(activation[c] / scales[c] / (weight[c] * scales[c]), 1, 1e-5);
  }
}

TEST(SmoothQuantTest, FormulasOfTheReference) {
  const std::vector<float> low{-1, 0, -3, 0}, high{2, 5, -1, 0};
  const auto range = smooth_activation_scales(low, high, SmoothStatistic::kRange);
  EXPECT_EQ(range, (std::vector<float>{3, 5, 2, 0}));
  EXPECT_EQ(smooth_activation_scales(low, high, SmoothStatistic::kAbsMax),
            (std::vector<float>{2, 5, 3, 1e-5f}));
  Matrix a(1, 4), b(1, 4);
  for (std::int64_t c = 0; c < 4; ++c) a.at(0, c) = static_cast<float>(c) * 0.5f;
  b.at(0, 1) = -2;
  const Matrix* weights[] = {&a, &b};
  const auto doubled = smooth_weight_scales(weights, SmoothStatistic::kRange);
  EXPECT_EQ(doubled, (std::vector<float>{0, 4, 2, 3}));
  const auto scales = smooth_scales(range, doubled, 0.8, SmoothAlgorithm::kSmoothQuant);
  EXPECT_EQ(scales[0], 3.0f);  // a channel without weights
  EXPECT_NEAR(scales[1], std::pow(5.0, 0.8) / std::pow(4.0, 0.2), 1e-5);
  EXPECT_EQ(scales[3], 1e-5f);  // a silent channel
  const auto log_scales = smooth_scales(range, doubled, 0.8, SmoothAlgorithm::kLogEqualization);
  EXPECT_NEAR(log_scales[1], 5 / std::log2(7.0), 1e-5);
}

}  // namespace
}  // namespace nibble
