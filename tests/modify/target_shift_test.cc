// SPDX-License-Identifier: Apache-2.0
#include "modify/target_shift.h"

#include <gtest/gtest.h>

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
    return sum.finish().value();
  }
  Hessian hessian(std::int64_t first, std::int64_t last) {
    HessianAccumulator sum(24);
    sum.add(pool, x.data() + first * 24, last - first, 24, 1);
    return sum.finish().value();
  }
  ThreadPool pool{2};
  Matrix original, x;
};

// E ||a x - b x_original||^2.
double output_error(const Matrix& a, const Matrix& x, const Matrix& b, const Matrix& original,
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

TEST(TargetShiftTest, EqualStreamsShiftNothing27) {
  Streams streams(0);
  const Matrix w = random_matrix(8, 24, 3);
  for (const double frac : {0.0, 0.01, 1.0}) {
    const Matrix d =
        shift_direction(streams.pool, w, streams.hessian(0, 600), streams.shift(0, 600), frac).value();
    for (const float value : d.values()) EXPECT_EQ(value, 0.0f);
  }
}

TEST(TargetShiftTest, ErrorDiffersFromTheShiftedOneByAConstant27) {
  Streams streams;
  const Matrix w = random_matrix(8, 24, 3);
  const Hessian h = streams.hessian(0, 600);
  const Matrix target =
      shifted_target(w, shift_direction(streams.pool, w, h, streams.shift(0, 600), 1e-9).value(), 1.0);
  double constant = 0;
  for (const std::uint64_t seed : {11u, 12u, 13u}) {
    Matrix q = w;
    const Matrix change = random_matrix(8, 24, seed, 0.3);
    for (std::int64_t i = 0; i < 8 * 24; ++i) q.data()[i] += change.data()[i];
    const double full = output_error(q, streams.x, w, streams.original);
    const double shifted = testing::layer_loss(q, target, h.values);
    if (constant == 0) constant = full - shifted;
    EXPECT_NEAR(full - shifted, constant, 1e-4 * full);
    EXPECT_GT(constant, 0);
  }
}

TEST(TargetShiftTest, HeldOutStrengthIsTheBestOfAllStrengths) {
  Streams streams;
  const Matrix w = random_matrix(8, 24, 3);
  const Matrix d =
      shift_direction(streams.pool, w, streams.hessian(0, 60), streams.shift(0, 60), 0.01).value();
  const double best = held_out_strength(streams.pool, w, d, streams.hessian(60, 600), streams.shift(60, 600));
  EXPECT_GT(best, 0.3);
  const auto error = [&](double strength) {
    Matrix x(540, 24), original(540, 24);
    std::copy_n(streams.x.data() + 60 * 24, 540 * 24, x.data());
    std::copy_n(streams.original.data() + 60 * 24, 540 * 24, original.data());
    return output_error(shifted_target(w, d, strength), x, w, original);
  };
  const double least = error(best);
  for (const double other : {0.0, 0.25, 0.5, 0.75, 1.0}) EXPECT_LE(least, error(other) * (1 + 1e-6));
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
  const double with = output_error(changed, streams.x, w, streams.x, difference);
  const double without = output_error(changed, streams.x, w, streams.x);
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
  EXPECT_LT(output_error(w, streams.x, w, streams.original, bias),
            output_error(w, streams.x, w, streams.original));
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
