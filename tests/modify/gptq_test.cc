// SPDX-License-Identifier: Apache-2.0
// Invariants of GPTQ.
#include "modify/gptq.h"

#include "codec/compressed_weight.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "modify/layers.h"
#include "modify/solver/loss.h"
#include "modify/solver/order.h"
#include "modify/solver/scale_search.h"
#include "modify/solver/stored.h"
#include "modify/solver/sweep.h"

namespace nibble {
namespace {

using testing::correlated_inputs;
using testing::hessian_of;
using testing::layer_loss;
using testing::same_bits;
using testing::total;
using testing::weight_like;

QuantizationArgs int_args(int bits, std::int64_t group, bool symmetric = true) {
  QuantizationArgs args;
  args.num_bits = bits;
  args.symmetric = symmetric;
  args.strategy = group > 0 ? Strategy::kGroup : Strategy::kChannel;
  if (group > 0) args.group_size = group;
  EXPECT_TRUE(args.validate("weights").ok());
  return args;
}

GptqOptions plain_options() {
  GptqOptions options;
  options.order = ColumnOrder::kNatural;
  options.search_scales = false;
  options.refine.rounds = 0;
  return options;
}

QuantParams minmax(const Matrix& weight, const QuantizationArgs& args, DType dtype = DType::kF32) {
  ThreadPool pool(1);
  return min_max_solver_params(pool, weight, args, dtype, 0).value();
}

struct GptqLayer {
  explicit GptqLayer(std::int64_t rows = 48, std::int64_t cols = 160, double rho = 0.9,
                     std::uint64_t seed = 1)
      : x(correlated_inputs(6 * cols, cols, rho, seed)),
        weight(weight_like(rows, cols, seed + 100)),
        hessian(hessian_of(pool, x)) {}
  ThreadPool pool{2};
  Matrix x, weight;
  Hessian hessian;

  GptqResult run(const QuantizationArgs& args, const GptqOptions& options) {
    return gptq(pool, weight, hessian, args, options).value();
  }
};

solver::SweepPlan plan_for(const QuantizationArgs& args, const Matrix& weight,
                           const solver::InverseFactor& factor) {
  solver::SweepPlan plan;
  plan.grid = solver::layer_grid(args, weight.rows(), weight.cols(), DType::kF32, 0).value();
  plan.order = solver::natural_order(weight.cols());
  plan.u = &factor.u;
  return plan;
}

TEST(GptqTest, LossIdentity14) {  // sum push^2 = e (H + lambda I) e^T, clipping included
  GptqLayer layer;
  for (const QuantizationArgs& args : {int_args(4, 32), int_args(2, 0), int_args(3, 16, false)}) {
    const auto factor =
        solver::inverse_factor(layer.pool, layer.hessian.values, solver::natural_order(160), 0.01);
    ASSERT_TRUE(factor.ok());
    const solver::SweepPlan plan = plan_for(args, layer.weight, *factor);
    QuantParams params = minmax(layer.weight, args);
    for (float& s : params.scale.values()) s *= 0.6f;  // much clipping
    const solver::SweepResult swept = solver::sweep_layer(layer.pool, plan, layer.weight, params);
    const std::vector<double> expected =
        testing::row_losses(swept.weight, layer.weight, layer.hessian.values, factor->lambda);
    for (std::size_t r = 0; r < expected.size(); ++r) EXPECT_NEAR(swept.row_loss[r] / expected[r], 1, 1e-4);
  }
}

TEST(GptqTest, BlockSizeDoesNotMatter15) {
  GptqLayer layer;
  for (const bool search : {false, true}) {
    GptqOptions options = plain_options();
    options.search_scales = search;
    options.block_size = 160;
    const GptqResult whole = layer.run(int_args(4, 32), options);
    for (const std::int64_t block : {1, 32, 128}) {
      options.block_size = block;
      const GptqResult other = layer.run(int_args(4, 32), options);
      std::int64_t different = 0;
      for (std::int64_t i = 0; i < 48 * 160; ++i) different += whole.codes.data()[i] != other.codes.data()[i];
      EXPECT_LE(different, 48 * 160 / 1000) << block;
      EXPECT_NEAR(other.loss / whole.loss, 1, 1e-3);
    }
  }
}

TEST(GptqTest, IsRoundingWhenTheHessianIsAMultipleOfTheIdentity16) {
  GptqLayer layer;
  layer.hessian.values = Matrix(160, 160);
  for (std::int64_t c = 0; c < 160; ++c) layer.hessian.values.at(c, c) = 3;
  const GptqResult rtn =
      round_to_nearest(layer.pool, layer.weight, layer.hessian, int_args(4, 32), {}).value();
  EXPECT_TRUE(same_bits(layer.run(int_args(4, 32), plain_options()).codes, rtn.codes));
  GptqOptions descent = plain_options();
  descent.refine = {.rounds = 1, .sweeps = 2, .refit_scales = false};
  EXPECT_TRUE(same_bits(layer.run(int_args(4, 32), descent).codes, rtn.codes));
}

TEST(GptqTest, BeatsRounding17) {
  for (const double rho : {0.0, 0.5, 0.9}) {
    GptqLayer layer(200, 96, rho, 7);
    const GptqResult result = layer.run(int_args(4, 32), plain_options());
    const GptqResult rtn =
        round_to_nearest(layer.pool, layer.weight, layer.hessian, int_args(4, 32), {}).value();
    const std::vector<double> ours = testing::row_losses(result.weight, layer.weight, layer.hessian.values);
    const std::vector<double> theirs = testing::row_losses(rtn.weight, layer.weight, layer.hessian.values);
    int better = 0;
    for (std::size_t r = 0; r < ours.size(); ++r) better += ours[r] <= theirs[r];
    EXPECT_GE(better, 0.9 * 200) << rho;
    EXPECT_LT(total(ours), total(theirs)) << rho;
    EXPECT_NEAR(result.loss / total(ours), 1, 1e-3);
  }
}

TEST(GptqTest, ColumnsMayBePermuted18) {
  GptqLayer layer;
  // Fixed scales of whole rows, so that the permuted problem is the same one.
  QuantizationArgs args = int_args(4, 0);
  args.actorder = ActOrder::kWeight;
  const QuantParams params = minmax(layer.weight, args);
  std::vector<std::int32_t> order = solver::natural_order(160);
  Rng rng(5);
  for (std::size_t i = order.size() - 1; i > 0; --i) std::swap(order[i], order[rng.below(i + 1)]);
  const Hessian permuted = hessian_of(layer.pool, solver::permute_columns(layer.x, order));
  const GptqResult natural =
      gptq_reference(layer.pool, layer.weight, layer.hessian, args, params, {}).value();
  const GptqResult moved =
      gptq_reference(layer.pool, solver::permute_columns(layer.weight, order), permuted, args, params, {})
          .value();
  EXPECT_TRUE(same_bits(solver::permute_columns(natural.codes, order), moved.codes));
}

TEST(GptqTest, SortedDiagonalMakesActOrderNatural19) {
  GptqLayer layer;
  const std::vector<std::int32_t> order = solver::diagonal_order(layer.hessian.values);
  const Hessian sorted = hessian_of(layer.pool, solver::permute_columns(layer.x, order));
  QuantizationArgs args = int_args(4, 32);
  const QuantParams params = minmax(layer.weight, args);
  const GptqResult natural = gptq_reference(layer.pool, layer.weight, sorted, args, params, {}).value();
  args.actorder = ActOrder::kWeight;
  const GptqResult ordered = gptq_reference(layer.pool, layer.weight, sorted, args, params, {}).value();
  EXPECT_TRUE(same_bits(natural.codes, ordered.codes));
}

TEST(GptqTest, RowsAreIndependent20) {
  GptqLayer layer(70, 160);
  const GptqResult whole = layer.run(int_args(3, 32), {});
  Matrix part(5, 160);
  for (std::int64_t r = 0; r < 5; ++r) std::ranges::copy(layer.weight.row(r + 61), part.row(r).begin());
  const GptqResult alone = gptq(layer.pool, part, layer.hessian, int_args(3, 32), {}).value();
  for (std::int64_t r = 0; r < 5; ++r) {
    EXPECT_TRUE(std::ranges::equal(whole.codes.row(r + 61), alone.codes.row(r))) << r;
    EXPECT_TRUE(std::ranges::equal(whole.params.scale.row(r + 61), alone.params.scale.row(r))) << r;
  }
}

// LDLQ: with H = (L)(D)(L^T), L unit lower, columns from last to first: q_k = Q(w_k + (w - q)(L - I)_k).
TEST(GptqTest, IsLdlqOnReversedColumns21) {
  GptqLayer layer(16, 48);
  const std::int64_t n = 48;
  const QuantizationArgs args = int_args(4, 0);
  QuantParams params = minmax(layer.weight, args);
  for (float& s : params.scale.values()) s *= 3;  // no clipping
  std::vector<std::int32_t> reversed = solver::natural_order(n);
  std::ranges::reverse(reversed);
  const auto factor = solver::inverse_factor(layer.pool, layer.hessian.values, reversed, 0.01);
  ASSERT_TRUE(factor.ok());
  solver::SweepPlan plan = plan_for(args, layer.weight, *factor);
  plan.order = reversed;
  const solver::SweepResult swept = solver::sweep_layer(layer.pool, plan, layer.weight, params);

  std::vector<std::vector<double>> l(48, std::vector<double>(48)), a(48, std::vector<double>(48));
  for (std::size_t i = 0; i < 48; ++i) {
    for (std::size_t j = 0; j < 48; ++j) {
      a[i][j] = static_cast<double>(
          layer.hessian.values.at(static_cast<std::int64_t>(i), static_cast<std::int64_t>(j)));
    }
    a[i][i] += factor->lambda;
  }
  for (std::size_t k = 0; k < 48; ++k) {  // LDL^T by elimination
    for (std::size_t i = k; i < 48; ++i) l[i][k] = a[i][k] / a[k][k];
    for (std::size_t i = k + 1; i < 48; ++i) {
      for (std::size_t j = k + 1; j < 48; ++j) a[i][j] -= l[i][k] * a[k][k] * l[j][k];
    }
  }
  std::int64_t different = 0;
  for (std::int64_t r = 0; r < 16; ++r) {
    std::vector<double> e(48);
    const auto scale = static_cast<double>(params.scale.at(r, 0));
    for (std::size_t k = 48; k-- > 0;) {
      const auto w = static_cast<double>(layer.weight.at(r, static_cast<std::int64_t>(k)));
      double target = w;
      for (std::size_t i = k + 1; i < 48; ++i) target += e[i] * l[i][k];
      const double code = std::nearbyint(target / scale);
      e[k] = w - code * scale;
      different += code != static_cast<double>(swept.codes.at(r, static_cast<std::int64_t>(k)));
    }
  }
  EXPECT_EQ(different, 0);
}

TEST(GptqTest, LossStaysBelowTheNoClipBound22) {
  GptqLayer layer;
  const auto factor =
      solver::inverse_factor(layer.pool, layer.hessian.values, solver::natural_order(160), 0.01);
  solver::SweepPlan plan = plan_for(int_args(4, 0), layer.weight, *factor);
  QuantParams params = minmax(layer.weight, int_args(4, 0));
  for (float& s : params.scale.values()) s *= 4;
  const solver::SweepResult swept = solver::sweep_layer(layer.pool, plan, layer.weight, params);
  double pivots = 0;
  for (std::int64_t c = 0; c < 160; ++c) pivots += std::pow(static_cast<double>(factor->u.at(c, c)), -2);
  for (std::int64_t r = 0; r < 48; ++r) {
    const auto scale = static_cast<double>(params.scale.at(r, 0));
    EXPECT_LE(swept.row_loss[static_cast<std::size_t>(r)], scale * scale / 4 * pivots * (1 + 1e-5));
  }
}

TEST(GptqTest, SixteenBitsReproduceTheWeights23) {
  GptqLayer layer;
  const auto factor =
      solver::inverse_factor(layer.pool, layer.hessian.values, solver::natural_order(160), 0.01);
  solver::SweepPlan plan = plan_for(int_args(8, 32), layer.weight, *factor);
  plan.grid.codes = {.lowest = -32768, .highest = 32767};
  QuantParams params = minmax(layer.weight, int_args(8, 32));
  const solver::SweepResult swept = solver::sweep_layer(layer.pool, plan, layer.weight, params);
  for (std::int64_t r = 0; r < 48; ++r) {
    for (std::int64_t c = 0; c < 160; ++c) {
      // Compensation moves a weight by a few steps at most.
      EXPECT_NEAR(swept.weight.at(r, c), layer.weight.at(r, c), 8 * params.scale.at(r, c / 32));
    }
  }
}

TEST(GptqTest, DeadChannelsDoNotTouchOthersAndKeepTheirWeights24) {
  GptqLayer layer;
  for (const std::int64_t dead : {7, 90}) {
    for (std::int64_t t = 0; t < layer.x.rows(); ++t) layer.x.at(t, dead) = 0;
  }
  layer.hessian = hessian_of(layer.pool, layer.x);
  const QuantizationArgs args = int_args(4, 32);
  const QuantParams params = minmax(layer.weight, args);
  GptqOptions options = plain_options();
  options.params = &params;
  options.refine.rounds = 2;
  options.refine.refit_scales = false;
  const GptqResult before = layer.run(args, options);
  for (std::int64_t r = 0; r < 48; ++r) layer.weight.at(r, 7) *= -0.5f;
  const GptqResult after = layer.run(args, options);
  for (std::int64_t r = 0; r < 48; ++r) {
    for (std::int64_t c = 0; c < 160; ++c) {
      ASSERT_TRUE(c == 7 || before.codes.at(r, c) == after.codes.at(r, c));
    }
    EXPECT_NEAR(after.weight.at(r, 7), layer.weight.at(r, 7), 0.51f * params.scale.at(r, 0));
  }
}

TEST(GptqTest, OwnModeBeatsTheReferenceClearly) {
  GptqLayer layer(128, 128, 0.8, 11);
  for (const int bits : {2, 3, 4}) {
    for (const bool symmetric : {true, false}) {
      QuantizationArgs args = int_args(bits, 32, symmetric);
      const GptqResult ours = layer.run(args, {});
      args.actorder = ActOrder::kWeight;
      const QuantParams params = minmax(layer.weight, args);
      const GptqResult theirs =
          gptq_reference(layer.pool, layer.weight, layer.hessian, args, params, {}).value();
      EXPECT_LT(ours.loss,
                (bits == 4 ? 0.85 : 0.7) * layer_loss(theirs.weight, layer.weight, layer.hessian.values))
          << bits << symmetric;
    }
  }
}

TEST(GptqTest, EachPartLowersTheLoss) {
  GptqLayer layer(128, 128, 0.8, 12);
  const QuantizationArgs args = int_args(3, 32);
  GptqOptions options = plain_options();
  options.order = ColumnOrder::kGroups;
  double last = layer.run(args, options).loss;
  const auto falls_to = [&](const char* part) {
    const double now = layer.run(args, options).loss;
    EXPECT_LT(now, last) << part;
    last = now;
  };
  options.search_scales = true;
  options.scale_finalists = 1;
  options.negative_scales = false;
  falls_to("ranking");
  options.scale_finalists = 16;
  falls_to("look-ahead");
  options.negative_scales = true;
  falls_to("negative scales");
  options.refine = {.rounds = 1, .sweeps = 2, .refit_scales = false};
  falls_to("descent");
  options.refine = {.rounds = 2, .sweeps = 2, .refit_scales = true};
  falls_to("refit");
}

TEST(GptqTest, ResultDoesNotDependOnThreads) {
  GptqLayer layer(200, 96);
  for (const QuantizationArgs& args : {int_args(3, 32), int_args(4, 0, false)}) {
    ThreadPool one(1), four(4);
    const GptqResult a = gptq(one, layer.weight, layer.hessian, args, {}).value();
    const GptqResult b = gptq(four, layer.weight, layer.hessian, args, {}).value();
    EXPECT_TRUE(same_bits(a.codes, b.codes));
    EXPECT_TRUE(same_bits(a.weight, b.weight));
    EXPECT_TRUE(same_bits(a.params.scale, b.params.scale));
  }
}

TEST(GptqTest, WeightsAreTheCodesTimesStoredScales) {
  GptqLayer layer;
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    for (const bool symmetric : {true, false}) {
      GptqOptions options;
      options.model_dtype = dtype;
      const GptqResult result = layer.run(int_args(4, 32, symmetric), options);
      for (std::int64_t r = 0; r < 48; ++r) {
        for (std::int64_t c = 0; c < 160; ++c) {
          const float scale = result.params.scale.at(r, c / 32);
          const float zero = symmetric ? 0 : result.params.zero_point.at(r, c / 32);
          const float code = result.codes.at(r, c);
          ASSERT_EQ(scale, round_to(dtype, scale));
          ASSERT_EQ(code, std::nearbyint(code));
          ASSERT_TRUE(code >= -8 && code <= 7);
          ASSERT_EQ(result.weight.at(r, c), round_to(dtype, (code - zero) * scale));
        }
      }
    }
  }
}

TEST(GptqTest, LastGroupMayBeShort) {
  GptqLayer layer(20, 150);
  const GptqResult result = layer.run(int_args(4, 64), {});
  EXPECT_EQ(result.params.scale.cols(), 3);
  const GptqResult rtn =
      round_to_nearest(layer.pool, layer.weight, layer.hessian, int_args(4, 64), {}).value();
  EXPECT_LT(result.loss, 0.5 * rtn.loss);
}

struct SchemeCase {
  std::string name;
  QuantizationArgs args;
  CompressionFormat format;
};

std::vector<SchemeCase> scheme_cases() {
  QuantizationArgs fp8 = int_args(8, 0), nvfp4 = int_args(4, 0), mxfp4 = int_args(4, 32),
                   block = int_args(8, 0), tensor = int_args(8, 0);
  fp8.type = nvfp4.type = mxfp4.type = NumberType::kFloat;
  nvfp4.strategy = Strategy::kTensorGroup;
  nvfp4.group_size = 16;
  nvfp4.scale_dtype = nvfp4.zp_dtype = DType::kF8E4M3;
  mxfp4.scale_dtype = mxfp4.zp_dtype = DType::kU8;
  block.strategy = Strategy::kBlock;
  block.block_structure = {32, 32};
  tensor.strategy = Strategy::kTensor;
  std::vector<SchemeCase> cases{{"fp8", fp8, CompressionFormat::kFloatQuantized},
                                {"nvfp4", nvfp4, CompressionFormat::kNvfp4Pack},
                                {"mxfp4", mxfp4, CompressionFormat::kMxfp4Pack},
                                {"block", block, CompressionFormat::kIntQuantized},
                                {"tensor", tensor, CompressionFormat::kIntQuantized},
                                {"w4", int_args(4, 32), CompressionFormat::kPackQuantized},
                                {"w3 asymmetric", int_args(3, 32, false), CompressionFormat::kPackQuantized},
                                {"w8", int_args(8, 0), CompressionFormat::kPackQuantized}};
  for (SchemeCase& scheme : cases) EXPECT_TRUE(scheme.args.validate("weights").ok()) << scheme.name;
  return cases;
}

TEST(GptqTest, EveryWeightSchemeWorks) {
  GptqLayer layer(40, 96, 0.8, 3);
  for (const SchemeCase& scheme : scheme_cases()) {
    GptqOptions options;
    options.model_dtype = DType::kBF16;
    if (scheme.args.is_nvfp4()) options.global_scale = 6 * 448 / 0.4f;
    const GptqResult result = layer.run(scheme.args, options);
    const GptqResult rtn =
        round_to_nearest(layer.pool, layer.weight, layer.hessian, scheme.args, options).value();
    EXPECT_LT(result.loss, 0.75 * rtn.loss) << scheme.name;
  }
}

TEST(GptqTest, WhatIsStoredDecodesToTheWeights11) {
  GptqLayer layer(40, 96, 0.8, 3);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const SchemeCase& scheme : scheme_cases()) {
      GptqOptions options;
      options.model_dtype = dtype;
      if (scheme.args.is_nvfp4()) options.global_scale = 6 * 448 / 0.4f;
      const GptqResult result = layer.run(scheme.args, options);
      const WeightParams params = stored_params(result.params, scheme.args, dtype, 40, 96);
      const Result<CompressedWeight> stored = CompressedWeight::from_codes(
          layer.pool, stored_codes(result.codes, scheme.args), scheme.args, scheme.format, dtype, params);
      ASSERT_TRUE(stored.ok()) << scheme.name << ": " << stored.error().message();
      Matrix dense(40, 96);
      stored->dense(layer.pool)->decode_f32(0, dense.values());
      Matrix expected = result.weight;
      for (float& w : expected.values()) w = round_to(dtype, w);
      EXPECT_TRUE(same_bits(dense, expected)) << scheme.name << " " << torch_name(dtype);
      const QuantParams back = solver_params(params, scheme.args, 40, 96);
      EXPECT_TRUE(same_bits(back.scale, result.params.scale));
    }
  }
}

TEST(GptqTest, PrunedWeightsStayExactlyZero) {
  GptqLayer layer;
  Matrix keep(48, 160);
  Rng rng(1);
  for (float& k : keep.values()) k = rng.uniform() < 0.5 ? 0.0f : 1.0f;
  for (std::int64_t i = 0; i < 48 * 160; ++i) layer.weight.data()[i] *= keep.data()[i];
  for (const bool symmetric : {true, false}) {
    GptqOptions options;
    options.keep = &keep;
    const GptqResult result = layer.run(int_args(4, 32, symmetric), options);
    for (std::int64_t i = 0; i < 48 * 160; ++i) {
      ASSERT_TRUE(keep.data()[i] != 0 || result.weight.data()[i] == 0.0f);
    }
    GptqOptions all;
    EXPECT_LT(result.loss, 2 * layer.run(int_args(4, 32, symmetric), all).loss);
  }
  Matrix ones(48, 160);
  for (float& k : ones.values()) k = 1;
  GptqOptions options;
  options.keep = &ones;
  EXPECT_TRUE(same_bits(layer.run(int_args(4, 32), options).codes, layer.run(int_args(4, 32), {}).codes));
}

TEST(GptqTest, SingularHessianRaisesTheDampingAndSaysSo) {
  GptqLayer layer;
  Matrix few = correlated_inputs(3, 160, 0.9, 1);
  layer.hessian = hessian_of(layer.pool, few);
  GptqOptions options;
  options.dampening_frac = -0.5;
  const GptqResult result = layer.run(int_args(4, 32), options);
  EXPECT_GT(result.damping.raises, 0);
  EXPECT_GT(result.damping.used_frac, 0);
  EXPECT_EQ(result.damping.requested_frac, -0.5);
  options.dampening_frac = 0.01;
  EXPECT_EQ(layer.run(int_args(4, 32), options).damping.raises, 0);
}

TEST(GptqTest, NotFiniteInputIsAnError) {
  GptqLayer layer;
  layer.weight.at(3, 5) = std::numeric_limits<float>::quiet_NaN();
  const Result<GptqResult> weights = gptq(layer.pool, layer.weight, layer.hessian, int_args(4, 32), {});
  ASSERT_FALSE(weights.ok());
  EXPECT_NE(weights.error().what.find("[3, 5]"), std::string::npos);
  GptqLayer other;
  other.hessian.values.at(9, 9) = std::numeric_limits<float>::infinity();
  const Result<GptqResult> hessian = gptq(other.pool, other.weight, other.hessian, int_args(4, 32), {});
  ASSERT_FALSE(hessian.ok());
  EXPECT_NE(hessian.error().what.find("channel 9"), std::string::npos);
}

TEST(GptqTest, ActOrderGroupGivesAGroupIndex) {
  GptqLayer layer;
  QuantizationArgs args = int_args(4, 32);
  args.actorder = ActOrder::kGroup;
  GptqReferenceOptions options;
  options.observe = [&](const Matrix& permuted) -> Result<QuantParams> { return minmax(permuted, args); };
  const GptqResult result =
      gptq_reference(layer.pool, layer.weight, layer.hessian, args, {}, options).value();
  ASSERT_EQ(result.group_index.size(), 160u);
  const std::vector<std::int32_t> order = solver::diagonal_order(layer.hessian.values);
  for (std::size_t p = 0; p < 160; ++p) {
    EXPECT_EQ(result.group_index[static_cast<std::size_t>(order[p])], static_cast<std::int32_t>(p / 32));
  }
  for (std::int64_t c = 0; c < 160; ++c) {
    const float scale = result.params.scale.at(4, result.group_index[static_cast<std::size_t>(c)]);
    EXPECT_EQ(result.weight.at(4, c), result.codes.at(4, c) * scale);
  }
}

TEST(ScaleSearchTest, PredictedLossIsRealised30) {
  GptqLayer layer(16, 64);
  const QuantizationArgs args = int_args(3, 64);
  const auto factor =
      solver::inverse_factor(layer.pool, layer.hessian.values, solver::natural_order(64), 0.01);
  solver::SweepPlan plan = plan_for(args, layer.weight, *factor);
  const solver::ScaleSearch search(solver::search_options(plan.grid, 16, true), plan.grid);
  const solver::Columns w = solver::load_rows(layer.weight, 0, 16, {});
  Matrix panel(64, solver::kLanes);
  w.gather(0, 64, 0, panel.data());
  const solver::LaneScales chosen =
      search.choose({.cols = 64, .w = panel.data(), .u = factor->u.data(), .ldu = 64});
  plan.search = &search;
  QuantParams params = minmax(layer.weight, args);
  const solver::SweepResult swept = solver::sweep_layer(layer.pool, plan, layer.weight, params);
  for (std::size_t r = 0; r < 16; ++r) {
    EXPECT_NEAR(swept.row_loss[r] / static_cast<double>(chosen.loss[r]), 1, 1e-5);
    EXPECT_EQ(params.scale.at(static_cast<std::int64_t>(r), 0), chosen.stored[r]);
  }
}

TEST(ScaleSearchTest, NeverWorseThanMinMax5) {
  GptqLayer layer(40, 64);
  for (const QuantizationArgs& args : {int_args(2, 16), int_args(4, 32, false)}) {
    const auto grid = solver::layer_grid(args, 40, 64, DType::kF32, 0).value();
    Matrix identity(64, 64);
    for (std::int64_t c = 0; c < 64; ++c) identity.at(c, c) = 1;
    solver::SweepPlan plan{.u = &identity, .order = solver::natural_order(64), .grid = grid};
    QuantParams start = minmax(layer.weight, args), found = start;
    const solver::SweepResult a = solver::sweep_layer(layer.pool, plan, layer.weight, start);
    const solver::ScaleSearch search(solver::search_options(grid, 16, true), grid);
    plan.search = &search;
    const solver::SweepResult b = solver::sweep_layer(layer.pool, plan, layer.weight, found);
    for (std::size_t r = 0; r < 40; ++r) EXPECT_LE(b.row_loss[r], a.row_loss[r] * (1 + 1e-6));
  }
}

TEST(ScaleSearchTest, StaticSearchNeverWorseThanMinMax) {
  GptqLayer layer(40, 64);
  QuantizationArgs args = int_args(4, 0);
  args.strategy = Strategy::kBlock;
  args.block_structure = {16, 32};
  const auto grid = solver::layer_grid(args, 40, 64, DType::kF32, 0).value();
  GptqOptions options = plain_options();
  const double minmax = round_to_nearest(layer.pool, layer.weight, layer.hessian, args, options).value().loss;
  std::vector<float> importance;
  for (std::int64_t c = 0; c < 64; ++c) importance.push_back(layer.hessian.values.at(c, c));
  const QuantParams params = solver::search_static(layer.pool, layer.weight, importance,
                                                   solver::search_options(grid, 1, false), grid);
  options.params = &params;
  EXPECT_LT(round_to_nearest(layer.pool, layer.weight, layer.hessian, args, options).value().loss, minmax);
}

TEST(ScaleSearchTest, DegenerateGroupsStayFinite10) {
  GptqLayer layer(6, 64);
  for (std::int64_t c = 0; c < 64; ++c) {
    layer.weight.at(0, c) = 0;                                  // zero row
    layer.weight.at(1, c) = 0.25f;                              // constant
    layer.weight.at(2, c) = std::fabs(layer.weight.at(2, c));   // one sign
    layer.weight.at(3, c) = -std::fabs(layer.weight.at(3, c));  // the other
    layer.weight.at(4, c) = c == 5 ? 1.0f : 0.0f;
    layer.weight.at(5, c) *= 1e-30f;
  }
  for (const bool symmetric : {true, false}) {
    for (const DType dtype : {DType::kF32, DType::kF16}) {
      GptqOptions options;
      options.model_dtype = dtype;
      const GptqResult result = layer.run(int_args(4, 32, symmetric), options);
      for (const float w : result.weight.values()) ASSERT_TRUE(std::isfinite(w));
      for (std::int64_t c = 0; c < 64; ++c) EXPECT_EQ(result.weight.at(0, c), 0.0f);
    }
  }
}

}  // namespace
}  // namespace nibble
