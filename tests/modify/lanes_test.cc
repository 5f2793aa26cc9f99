// SPDX-License-Identifier: Apache-2.0
#include "modify/solver/lanes/lanes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/dtype.h"
#include "base/rng.h"
#include "modify/layers.h"
#include "modify/solver/grid.h"

namespace nibble::solver {
namespace {

using kernels::CpuLevel;
using nibble::testing::random_matrix;

// Rounds x to the grid of `args` with scale 1 through the sweep kernel.
std::vector<float> round_all(CpuLevel level, const std::vector<float>& x, const CodeGrid& grid,
                             const ProductFormat& product = {}, float scale_value = 1) {
  const float unit_pivot = 1;
  std::vector<float> result;
  for (std::size_t first = 0; first < x.size(); first += kLanes) {
    float w[kLanes] = {}, scale[kLanes], q[kLanes], loss[kLanes] = {};
    std::fill(scale, scale + kLanes, scale_value);
    for (std::size_t i = 0; i < kLanes && first + i < x.size(); ++i) w[i] = x[first + i];
    const float* scales = scale;
    lane_table(level).sweep({.cols = 1,
                             .reach = 1,
                             .u = &unit_pivot,
                             .ldu = 1,
                             .w = w,
                             .scale = &scales,
                             .grid = grid,
                             .product = product,
                             .q = q,
                             .loss = loss});
    result.insert(result.end(), q, q + kLanes);
  }
  result.resize(x.size());
  return result;
}

CodeGrid grid_of(NumberType type, int bits) {
  QuantizationArgs args;
  args.type = type;
  args.num_bits = bits;
  return code_grid(args);
}

std::vector<float> probes(float limit) {
  std::vector<float> x;
  Rng rng(3);
  for (int i = 0; i < 20000; ++i) x.push_back(static_cast<float>(limit * (2.4 * rng.uniform() - 1.2)));
  for (int i = 0; i < 4000; ++i) x.push_back(static_cast<float>(rng.normal() * 0.02));
  for (int i = -64; i <= 64; ++i) x.push_back(static_cast<float>(i) * 0.125f);  // midpoints
  return x;
}

TEST(LanesTest, Fp8RoundsAsTheConversion) {
  const std::vector<float> x = probes(460);
  for (const CpuLevel level : kernels::available_levels()) {
    const std::vector<float> q = round_all(level, x, grid_of(NumberType::kFloat, 8));
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(q[i], f8e4m3_to_f32(f32_to_f8e4m3(std::clamp(x[i], -448.0f, 448.0f)))) << x[i];
    }
  }
}

TEST(LanesTest, Fp4RoundsToTheNearestOfItsValues) {
  const float values[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  const std::vector<float> x = probes(7);
  for (const CpuLevel level : kernels::available_levels()) {
    const std::vector<float> q = round_all(level, x, grid_of(NumberType::kFloat, 4));
    for (std::size_t i = 0; i < x.size(); ++i) {
      int best = 0;
      for (int v = 1; v < 8; ++v) {
        const float now = std::fabs(std::fabs(x[i]) - values[v]),
                    before = std::fabs(std::fabs(x[i]) - values[best]);
        if (now < before || (now == before && v % 2 == 0)) best = v;  // ties to the even mantissa
      }
      ASSERT_EQ(std::fabs(q[i]), values[best]) << x[i];
      ASSERT_TRUE(q[i] == 0 || std::signbit(q[i]) == std::signbit(x[i]));
    }
  }
}

TEST(LanesTest, IntegersRoundHalfToEvenAndSaturate) {
  const std::vector<float> x = probes(140);
  for (const CpuLevel level : kernels::available_levels()) {
    const std::vector<float> q = round_all(level, x, grid_of(NumberType::kInt, 8));
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(q[i], std::clamp(std::nearbyint(x[i]), -128.0f, 127.0f)) << x[i];
    }
  }
}

TEST(LanesTest, ProductsRoundToTheModelType) {
  const std::vector<float> x = probes(140);
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    for (const CpuLevel level : kernels::available_levels()) {
      const float scale = round_to(dtype, 0.0123f);
      const std::vector<float> q =
          round_all(level, x, grid_of(NumberType::kInt, 8), product_format(dtype, false), scale);
      for (std::size_t i = 0; i < x.size(); ++i) {
        const float code = std::clamp(std::nearbyint(x[i] / scale), -128.0f, 127.0f);
        ASSERT_EQ(q[i], round_to(dtype, code * scale));
        ASSERT_EQ(q[i], round_product(code * scale, product_format(dtype, false)));
      }
    }
  }
}

TEST(LanesTest, SweepGivesTheSameBitsAtEveryLevel) {
  for (const int cols : {1, 7, 8, 33, 100}) {
    const Matrix u = random_matrix(cols, cols, 1, 0.3);
    const Matrix start = random_matrix(cols, kLanes, 2);
    std::vector<float> scale(kLanes, 0.25f), zero(kLanes, 1.0f);
    const std::vector<const float*> scales(static_cast<std::size_t>(cols), scale.data());
    const std::vector<const float*> zeros(static_cast<std::size_t>(cols), zero.data());
    Matrix first_q;
    for (const CpuLevel level : kernels::available_levels()) {
      Matrix w = start, q(cols, kLanes), push(cols, kLanes);
      std::vector<float> loss(kLanes);
      lane_table(level).sweep({.cols = cols,
                               .reach = cols,
                               .u = u.data(),
                               .ldu = cols,
                               .w = w.data(),
                               .scale = scales.data(),
                               .zero = zeros.data(),
                               .grid = grid_of(NumberType::kInt, 4),
                               .q = q.data(),
                               .push = push.data(),
                               .loss = loss.data()});
      if (first_q.empty()) first_q = push;
      EXPECT_TRUE(nibble::testing::same_bits(first_q, push)) << kernels::level_name(level) << " " << cols;
    }
  }
}

}  // namespace
}  // namespace nibble::solver
