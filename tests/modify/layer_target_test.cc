// SPDX-License-Identifier: Apache-2.0
#include "modify/layer_target.h"

#include <gtest/gtest.h>

#include "modify/unit.h"

namespace nibble {
namespace {

using testing::correlated_inputs;
using testing::InputStatistics;
using testing::random_matrix;
using testing::UnitBuilder;
using testing::weight_like;
using testing::work_of;

constexpr std::int64_t kInputs = 64, kFewTokens = 128, kTokens = 2048;

// Original inputs that deviate from those that arrive: in part as these say, in part by chance.
struct DeviatingLayer {
  DeviatingLayer()
      : x(correlated_inputs(kTokens, kInputs, 0.8, 1)),
        original(deviated()),
        few_x(first(x)),
        few_originals(first(original)),
        weight(weight_like(48, kInputs, 2)),
        statistics(builder.pool(), few_x, 2, &few_originals) {
    const ModuleInfo& module =
        builder.linear(testing::kDownProj, ModuleRole::kDown, 3, weight.rows(), kInputs);
    unit.modules.push_back(work_of(module, weight, &statistics.values()));
  }

  Matrix deviated() const {
    Matrix result = random_matrix(kTokens, kInputs, 3, 0.8);
    for (std::int64_t t = 0; t < kTokens; ++t) {
      for (std::int64_t c = 0; c < kInputs; ++c)
        result.at(t, c) += x.at(t, c) + 0.2f * x.at(t, (c + 5) % kInputs);
    }
    return result;
  }
  // The target is found on the first tokens, and judged by the others.
  static Matrix first(const Matrix& all) {
    Matrix few(kFewTokens, kInputs);
    std::copy_n(all.data(), kFewTokens * kInputs, few.data());
    return few;
  }

  Matrix target(double strength) {
    UnitShifts shifts(unit);
    const CorrectionOptions options{.target = true, .strength = strength};
    return LayerTarget::make(builder.pool(), unit.modules[0], options, shifts).value().weight();
  }
  // What the shift gives with the damping of the solvers.
  Matrix barely_damped() {
    const ModuleStatistics& seen = statistics.values();
    ShiftSolver solver(*seen.compared_hessian, {seen.half_shift[0], seen.half_shift[1]}, 0.01);
    const ShiftDirections found = solver.directions(builder.pool(), weight).value();
    return shifted_target(shifted_target(weight, found.direction[0], 0.5), found.direction[1], 0.5);
  }
  // E ||a x - W x_original||^2 on tokens that were not seen.
  double error(const Matrix& a) const {
    double sum = 0;
    for (std::int64_t t = kFewTokens; t < kTokens; ++t) {
      for (std::int64_t r = 0; r < weight.rows(); ++r) {
        double y = 0;
        for (std::int64_t c = 0; c < kInputs; ++c) {
          y += static_cast<double>(a.at(r, c)) * static_cast<double>(x.at(t, c)) -
               static_cast<double>(weight.at(r, c)) * static_cast<double>(original.at(t, c));
        }
        sum += y * y;
      }
    }
    return sum;
  }

  UnitBuilder builder;
  Matrix x, original, few_x, few_originals, weight;
  InputStatistics statistics;
  UnitWork unit;
};

TEST(LayerTargetTest, FewTokensFindATargetThatHoldsForOthers) {
  DeviatingLayer layer;
  const double found = layer.error(layer.target(1));
  EXPECT_LT(found, layer.error(layer.weight));
  EXPECT_LT(found, layer.error(layer.barely_damped()));
}

TEST(LayerTargetTest, StrengthNoughtIsTheWeight) {
  DeviatingLayer layer;
  EXPECT_TRUE(testing::same_bits(layer.target(0), layer.weight));
}

}  // namespace
}  // namespace nibble
