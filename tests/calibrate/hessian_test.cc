// SPDX-License-Identifier: Apache-2.0
#include "calibrate/hessian.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "modify/layers.h"

namespace nibble {
namespace {

using testing::correlated_inputs;
using testing::hessian_of;

// The largest |a_ij - b_ij| / sqrt(b_ii b_jj): a rounding error of the sum over t of x_ti x_tj is in
// proportion to the sizes of both columns, whatever the sum itself comes to.
double largest_difference(const Matrix& a, const Matrix& b) {
  double worst = 0;
  for (std::int64_t i = 0; i < b.rows(); ++i) {
    for (std::int64_t j = 0; j < b.cols(); ++j) {
      const double size = std::sqrt(static_cast<double>(b.at(i, i)) * static_cast<double>(b.at(j, j)));
      worst =
          std::max(worst, std::abs(static_cast<double>(a.at(i, j)) - static_cast<double>(b.at(i, j))) / size);
    }
  }
  return worst;
}

TEST(HessianTest, EqualsTheSumOfOuterProducts) {
  ThreadPool pool(2);
  const Matrix x = correlated_inputs(301, 33, 0.8, 1, 0.5);
  const Hessian h = hessian_of(pool, x);
  ASSERT_EQ(h.tokens, 301);
  for (std::int64_t i = 0; i < 33; ++i) {
    for (std::int64_t j = 0; j < 33; ++j) {
      double sum = 0, size = 0;
      for (std::int64_t t = 0; t < x.rows(); ++t) {
        sum += static_cast<double>(x.at(t, i)) * static_cast<double>(x.at(t, j)) / 301;
        size += std::abs(static_cast<double>(x.at(t, i)) * static_cast<double>(x.at(t, j))) / 301;
      }
      EXPECT_NEAR(static_cast<double>(h.values.at(i, j)), sum, 1e-6 * size);
      EXPECT_EQ(h.values.at(i, j), h.values.at(j, i));
    }
  }
}

TEST(HessianTest, ChunksGiveTheSameAsOneShot) {
  ThreadPool pool(2);
  const Matrix x = correlated_inputs(9000, 24, 0.9, 2);
  HessianAccumulator chunks(24);
  for (std::int64_t t = 0; t < 9000; t += 450) chunks.add(pool, x.data() + t * 24, 450, 24, 1);
  const Hessian a = chunks.finish(pool).value();
  const Hessian b = hessian_of(pool, x);
  EXPECT_EQ(a.sequences, 20);
  EXPECT_LT(largest_difference(a.values, b.values), 1e-6);
}

TEST(HessianTest, DoesNotDependOnThreads) {
  const Matrix x = correlated_inputs(5000, 70, 0.5, 3);
  ThreadPool one(1), three(3);
  EXPECT_TRUE(testing::same_bits(hessian_of(one, x).values, hessian_of(three, x).values));
}

TEST(HessianTest, IsPositiveSemidefinite) {
  ThreadPool pool(1);
  // Rank 10 of 40: v^T H v >= 0 up to rounding for random v.
  const Hessian h = hessian_of(pool, correlated_inputs(10, 40, 0.9, 4));
  const Matrix v = testing::random_matrix(200, 40, 5);
  double largest = 0;
  for (std::int64_t c = 0; c < 40; ++c) largest = std::max(largest, static_cast<double>(h.values.at(c, c)));
  for (const double loss : testing::row_losses(v, Matrix(200, 40), h.values))
    EXPECT_GE(loss, -1e-5 * largest * 40);
}

TEST(HessianTest, MergedPartsEqualTheWholeExactly) {
  ThreadPool pool(1);
  const Matrix x = correlated_inputs(2 * 4096, 20, 0.5, 6);
  HessianAccumulator whole(20), first(20), second(20);
  whole.add(pool, x.data(), 8192, 20, 16);
  first.add(pool, x.data(), 4096, 20, 8);
  second.add(pool, x.data() + 4096 * 20, 4096, 20, 8);
  first.merge(pool, second);
  EXPECT_EQ(first.tokens(), 8192);
  EXPECT_EQ(first.sequences(), 16);
  EXPECT_TRUE(testing::same_bits(first.finish(pool).value().values, whole.finish(pool).value().values));
}

TEST(HessianTest, CentredFormSubtractsTheMean) {
  ThreadPool pool(1);
  Matrix x = correlated_inputs(500, 16, 0.5, 8, 2.0);
  const Hessian centred = hessian_of(pool, x, true);
  for (std::int64_t c = 0; c < 16; ++c) {
    for (std::int64_t t = 0; t < 500; ++t)
      x.at(t, c) -= static_cast<float>(centred.mean[static_cast<std::size_t>(c)]);
  }
  EXPECT_LT(largest_difference(centred.values, hessian_of(pool, x).values), 2e-5);
}

TEST(HessianTest, NoTokenAndBadTokensAreErrors) {
  ThreadPool pool(1);
  HessianAccumulator none(4);
  EXPECT_FALSE(none.finish(pool).ok());
  Matrix x(2, 4);
  x.at(1, 2) = std::numeric_limits<float>::infinity();
  HessianAccumulator bad(4);
  bad.add(pool, x.data(), 2, 4, 1);
  const Result<Hessian> result = bad.finish(pool);
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().what.find("channel 2"), std::string::npos);
}

TEST(InputShiftTest, IsTheCrossMomentOfTheDeviation) {
  ThreadPool pool(2);
  const Matrix x = correlated_inputs(2100, 12, 0.5, 9), original = correlated_inputs(2100, 12, 0.6, 10);
  InputShiftAccumulator sum(12);
  sum.add(pool, x.data(), original.data(), 1500, 12);
  sum.add(pool, x.data() + 1500 * 12, original.data() + 1500 * 12, 600, 12);
  const InputShift shift = sum.finish(pool).value();
  double expected = 0;
  for (std::int64_t t = 0; t < 2100; ++t) {
    expected += static_cast<double>(original.at(t, 3) - x.at(t, 3)) * static_cast<double>(x.at(t, 7)) / 2100;
  }
  EXPECT_NEAR(static_cast<double>(shift.values.at(3, 7)), expected, 1e-4);
  EXPECT_FALSE(InputShiftAccumulator(3).finish(pool).ok());
}

}  // namespace
}  // namespace nibble
