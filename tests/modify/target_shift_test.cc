// SPDX-License-Identifier: Apache-2.0
#include "modify/target_shift.h"

#include <gtest/gtest.h>

#include <cmath>

#include "modify/layers.h"

namespace nibble {
namespace {

using testing::correlated_inputs;
using testing::hessian_of;
using testing::random_matrix;

struct Streams {
  explicit Streams(double deviation = 0.3) : original(correlated_inputs(600, 24, 0.8, 1, 0.5)), x(original) {
    const Matrix noise = random_matrix(600, 24, 2, deviation);
    // A deviation that the inputs explain in part: what a shift can correct.
    for (std::int64_t t = 0; t < 600; ++t) {
      for (std::int64_t c = 0; c < 24; ++c)
        x.at(t, c) += 0.5f * noise.at(t, c) + 0.2f * original.at(t, (c + 1) % 24);
    }
    if (deviation == 0) x = original;
  }
  InputShift shift(std::int64_t first, std::int64_t last) {
    InputShiftAccumulator sum(24);
    sum.add(pool, x.data() + first * 24, original.data() + first * 24, last - first, 24);
    return sum.finish(pool).value();
  }
  Hessian hessian(std::int64_t first, std::int64_t last) {
    HessianAccumulator sum(24);
    sum.add(pool, x.data() + first * 24, last - first, 24, 1);
    return sum.finish(pool).value();
  }
  ThreadPool pool{2};
  Matrix original, x;
};

// E ||a x - b x_original||^2.
double shifted_error(const Matrix& a, const Matrix& x, const Matrix& b, const Matrix& original,
                     const std::vector<float>& bias = {}) {
  double sum = 0;
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    for (std::int64_t r = 0; r < a.rows(); ++r) {
      double y = bias.empty() ? 0 : static_cast<double>(bias[static_cast<std::size_t>(r)]);
      for (std::int64_t c = 0; c < x.cols(); ++c) {
        y += static_cast<double>(a.at(r, c)) * static_cast<double>(x.at(t, c)) -
             static_cast<double>(b.at(r, c)) * static_cast<double>(original.at(t, c));
      }
      sum += y * y;
    }
  }
  return sum / static_cast<double>(x.rows());
}

// `rows` of all linears that share the input: more than 24 solve for the input once.
ShiftDirections directions_of(Streams& streams, const Matrix& w, const Hessian& h,
                              const std::vector<InputShift>& shifts, double frac) {
  std::vector<const InputShift*> pointers;
  for (const InputShift& shift : shifts) pointers.push_back(&shift);
  return ShiftSolver(h, pointers, frac).directions(streams.pool, w).value();
}

TEST(TargetShiftTest, EqualStreamsShiftNothing27) {
  Streams streams(0);
  const Matrix w = random_matrix(8, 24, 3);
  const Hessian h = streams.hessian(0, 600);
  for (const double frac : {0.0, 0.01, 1.0}) {
    const ShiftDirections found = directions_of(streams, w, h, {streams.shift(0, 600)}, frac);
    for (const float value : found.direction[0].values()) EXPECT_EQ(value, 0.0f);
  }
}

TEST(TargetShiftTest, SharingAnInputChangesNothing) {
  Streams streams;
  const Hessian h = streams.hessian(0, 600);
  const std::vector<InputShift> halves{streams.shift(0, 300), streams.shift(300, 600)};
  std::vector<const InputShift*> pointers{&halves[0], &halves[1]};
  ShiftSolver shared(h, pointers, 0.01);
  for (const std::uint64_t seed : {3U, 4U}) {
    const Matrix w = random_matrix(8, 24, seed);
    const ShiftDirections alone = directions_of(streams, w, h, halves, 0.01);
    const ShiftDirections together = shared.directions(streams.pool, w).value();
    EXPECT_EQ(alone.lambda, together.lambda);
    for (const std::size_t part : {std::size_t{0}, std::size_t{1}}) {
      EXPECT_TRUE(testing::same_bits(alone.cross[part], together.cross[part]));
      EXPECT_TRUE(testing::same_bits(alone.direction[part], together.direction[part]));
    }
  }
}

TEST(TargetShiftTest, ErrorDiffersFromTheShiftedOneByAConstant27) {
  Streams streams;
  const Matrix w = random_matrix(8, 24, 3);
  const Hessian h = streams.hessian(0, 600);
  const Matrix target =
      shifted_target(w, directions_of(streams, w, h, {streams.shift(0, 600)}, 1e-9).direction[0], 1.0);
  double constant = 0;
  for (const std::uint64_t seed : {11u, 12u, 13u}) {
    Matrix q = w;
    const Matrix change = random_matrix(8, 24, seed, 0.3);
    for (std::int64_t i = 0; i < 8 * 24; ++i) q.data()[i] += change.data()[i];
    const double full = shifted_error(q, streams.x, w, streams.original);
    const double shifted = testing::layer_loss(q, target, h.values);
    if (constant == 0) constant = full - shifted;
    EXPECT_NEAR(full - shifted, constant, 1e-4 * full);
    EXPECT_GT(constant, 0);
  }
}

// Judged by the second part's shift under the moments of all, which both parts share.
TEST(TargetShiftTest, HeldOutStrengthIsTheBestOfAllStrengths) {
  Streams streams;
  const Matrix w = random_matrix(8, 24, 3);
  const Hessian h = streams.hessian(0, 600);
  const std::vector<InputShift> parts{streams.shift(0, 60), streams.shift(60, 600)};
  const ShiftDirections found = directions_of(streams, w, h, parts, 0.01);
  const Matrix& d = found.direction[0];
  const double best = held_out_strength(found, 0, 1);
  EXPECT_GT(best, 0.3);
  // E ||(W + a D) x - W x_original||^2 up to a constant, term by term in fp64.
  const auto error = [&](double strength) {
    double curvature = 0, slope = 0;
    for (std::int64_t r = 0; r < 8; ++r) {
      for (std::int64_t i = 0; i < 24; ++i) {
        const auto at = static_cast<double>(d.at(r, i));
        for (std::int64_t j = 0; j < 24; ++j) {
          curvature += at * static_cast<double>(h.values.at(i, j)) * static_cast<double>(d.at(r, j));
          slope += at * static_cast<double>(w.at(r, j)) * static_cast<double>(parts[1].values.at(j, i));
        }
      }
    }
    return strength * strength * curvature - 2 * strength * slope;
  };
  const double least = error(best);
  for (const double other : {0.0, 0.25, 0.5, 0.75, 1.0})
    EXPECT_LE(least, error(other) + 1e-4 * std::fabs(least));
  EXPECT_TRUE(testing::same_bits(shifted_target(w, d, 0), w));
}

TEST(UpdateBiasTest, OutputMeansAgreeAndTheLossFallsByTheMeanPart28) {
  Streams streams;
  const Matrix w = random_matrix(8, 24, 3);
  Matrix changed = w;
  for (float& value : changed.values()) value = std::nearbyint(value * 2) / 2;
  const std::vector<float> bias(8, 0.5f), zero(8, 0.0f);
  const Hessian h = streams.hessian(0, 600);
  const std::vector<float> updated = update_bias(bias, w, changed, h.mean);
  double mean_part = 0;
  for (std::int64_t r = 0; r < 8; ++r) {
    double mean = 0;
    for (std::int64_t c = 0; c < 24; ++c) {
      mean += (static_cast<double>(w.at(r, c)) - static_cast<double>(changed.at(r, c))) *
              h.mean[static_cast<std::size_t>(c)];
    }
    EXPECT_NEAR(static_cast<double>(updated[static_cast<std::size_t>(r)]) - 0.5, mean, 1e-4);
    mean_part += mean * mean;
  }
  const std::vector<float> difference = update_bias(zero, w, changed, h.mean);
  const double with = shifted_error(changed, streams.x, w, streams.x, difference);
  const double without = shifted_error(changed, streams.x, w, streams.x);
  EXPECT_NEAR(without - with, mean_part, 1e-4 * without);
  // The centred Hessian measures exactly what is left.
  EXPECT_NEAR(testing::layer_loss(changed, w, hessian_of(streams.pool, streams.x, true).values), with,
              1e-4 * with);
}

TEST(UpdateBiasTest, CountsTheDeviationOfTheInputs) {
  Streams streams;
  const Matrix w = random_matrix(8, 24, 3);
  const std::vector<float> zero(8, 0.0f);
  const std::vector<float> bias =
      update_bias(zero, w, w, streams.hessian(0, 600).mean, streams.shift(0, 600).mean);
  EXPECT_LT(shifted_error(w, streams.x, w, streams.original, bias),
            shifted_error(w, streams.x, w, streams.original));
}

TEST(InputShiftTest, CentringRemovesTheMeans) {
  Streams streams;
  const InputShift shift = centred(streams.shift(0, 600), streams.hessian(0, 600).mean);
  double expected = 0, mean_d = 0, mean_x = 0;
  for (std::int64_t t = 0; t < 600; ++t) {
    mean_d += static_cast<double>(streams.original.at(t, 2) - streams.x.at(t, 2)) / 600;
    mean_x += static_cast<double>(streams.x.at(t, 5)) / 600;
  }
  for (std::int64_t t = 0; t < 600; ++t) {
    expected += (static_cast<double>(streams.original.at(t, 2) - streams.x.at(t, 2)) - mean_d) *
                (static_cast<double>(streams.x.at(t, 5)) - mean_x) / 600;
  }
  EXPECT_NEAR(static_cast<double>(shift.values.at(2, 5)), expected, 1e-4);
}

}  // namespace
}  // namespace nibble
