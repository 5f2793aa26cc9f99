// SPDX-License-Identifier: Apache-2.0
#include "codec/mask_statistics.h"

#include <gtest/gtest.h>

#include "base/rng.h"

namespace nibble {
namespace {

Tensor random_tensor(Rng& rng, std::int64_t rows, std::int64_t cols, int kind) {
  std::vector<float> values(static_cast<std::size_t>(rows * cols));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const bool is_zero = kind == 0   ? rng.below(2) == 0
                         : kind == 1 ? i % 4 < 2
                                     : kind == 2 && rng.below(40) != 0;
    values[i] = is_zero ? (rng.below(2) == 0 ? 0.0F : -0.0F) : 1.0F + static_cast<float>(rng.below(9));
  }
  return Tensor::from_f32(DType::kBF16, {rows, cols}, values);
}

// Zeros of the group that begins at column c; columns behind the last are zeros.
int zeros_from(const std::vector<float>& values, std::int64_t cols, std::int64_t r, std::int64_t c,
               int group) {
  int zeros = 0;
  for (std::int64_t i = c; i < c + group; ++i)
    zeros += i >= cols || values[static_cast<std::size_t>(r * cols + i)] == 0 ? 1 : 0;
  return zeros;
}

void expect_counts(const MaskStatistics& s, const std::vector<float>& values) {
  std::int64_t zeros = 0, zero_rows = 0, zero_cols = 0;
  for (std::int64_t r = 0; r < s.rows; ++r) {
    const int in_row = zeros_from(values, s.cols, r, 0, static_cast<int>(s.cols));
    zeros += in_row;
    zero_rows += in_row == s.cols ? 1 : 0;
  }
  for (std::int64_t c = 0; c < s.cols; ++c) {
    bool all = s.rows > 0;
    for (std::int64_t r = 0; r < s.rows; ++r) all &= values[static_cast<std::size_t>(r * s.cols + c)] == 0;
    zero_cols += all ? 1 : 0;
  }
  EXPECT_EQ(s.zeros, zeros);
  EXPECT_EQ(s.zero_rows, zero_rows);
  EXPECT_EQ(s.zero_cols, zero_cols);
  for (std::size_t g = 0; g < kMaskGroups.size(); ++g) {
    std::array<std::int64_t, 33> expected{};
    for (std::int64_t r = 0; r < s.rows; ++r) {
      for (std::int64_t c = 0; c < s.cols; c += kMaskGroups[g])
        ++expected[static_cast<std::size_t>(zeros_from(values, s.cols, r, c, kMaskGroups[g]))];
    }
    EXPECT_EQ(s.groups[g], expected) << "groups of " << kMaskGroups[g];
  }
}

TEST(MaskStatistics, EqualCountingOneByOne) {
  Rng rng(11);
  for (int i = 0; i < 60; ++i) {
    const auto rows = static_cast<std::int64_t>(1 + rng.below(7));
    const auto cols = static_cast<std::int64_t>(1 + rng.below(200));
    const Tensor tensor = random_tensor(rng, rows, cols, i % 3);
    ThreadPool pool(1 + i % 3);
    const MaskStatistics s = mask_statistics(tensor, pool);
    SCOPED_TRACE(to_string(tensor.shape()));
    expect_counts(s, tensor.to_f32());
  }
}

TEST(MaskStatistics, BlocksOfRowsAddUp) {
  Rng rng(12);
  ThreadPool pool(2);
  const Tensor whole = random_tensor(rng, 1000, 259, 0);
  const std::vector<float> values = whole.to_f32();
  MaskCounter counter(259);
  for (std::int64_t r = 0; r < 1000; r += 300) {
    const std::int64_t rows = std::min<std::int64_t>(300, 1000 - r);
    counter.add(Tensor::from_f32(DType::kF32, {rows, 259},
                                 std::span(values).subspan(static_cast<std::size_t>(r * 259),
                                                           static_cast<std::size_t>(rows * 259))),
                pool);
  }
  const MaskStatistics& parts = counter.finish();
  const MaskStatistics all = mask_statistics(whole, pool);
  EXPECT_EQ(parts.groups, all.groups);
  EXPECT_EQ(parts.quads, all.quads);
  EXPECT_EQ(parts.zeros, all.zeros);
  EXPECT_EQ(parts.rows, 1000);
}

TEST(MaskStatistics, NameTheStructure) {
  ThreadPool pool(1);
  const auto structure = [&](std::int64_t cols, const std::vector<float>& row) {
    return mask_statistics(Tensor::from_f32(DType::kF32, {1, cols}, row), pool).structure();
  };
  EXPECT_EQ(structure(8, {1, 0, 0, 1, 0, 1, 0, 1}), "2:4");
  EXPECT_EQ(structure(8, {1, 1, 0, 1, 0, 0, 0, 1}), "4:8");
  EXPECT_EQ(structure(8, {1, 1, 0, 1, 1, 1, 0, 1}), "1:4");
  EXPECT_EQ(structure(8, {0, 0, 0, 0, 0, 0, 0, 0}), "zero");
  EXPECT_EQ(structure(8, {1, 1, 1, 1, 1, 1, 1, 1}), "dense");
  EXPECT_EQ(structure(6, {1, 0, 0, 1, 2, 2}), "2:4");  // the last two columns keep two values
  EXPECT_FALSE(
      mask_statistics(Tensor::from_f32(DType::kF32, {1, 6}, std::vector<float>{1, 0, 0, 1, 2, 2}), pool)
          .is_exactly_two_of_four());
  EXPECT_FALSE(mask_statistics(Tensor::from_f32(DType::kF32, {1, 4}, std::vector<float>{1, 0, 0, 0}), pool)
                   .is_exactly_two_of_four());
  EXPECT_EQ(mask_statistics(Tensor(DType::kF32, {0, 4}), pool).structure(), "dense");
}

TEST(MaskStatistics, FindTheFirstBreak) {
  Rng rng(13);
  for (int i = 0; i < 40; ++i) {
    const auto cols = static_cast<std::int64_t>(4 + rng.below(90));
    const Tensor tensor = random_tensor(rng, 5, cols, 0);
    const std::vector<float> values = tensor.to_f32();
    const MaskPattern pattern{1 + static_cast<int>(rng.below(3)), 3 + static_cast<int>(rng.below(6))};
    const auto found = first_break(tensor, pattern);
    std::optional<PatternBreak> expected;
    for (std::int64_t r = 0; r < 5 && !expected; ++r) {
      for (std::int64_t c = 0; c < cols && !expected; c += pattern.group) {
        const int zeros = zeros_from(values, cols, r, c, pattern.group);
        if (zeros < pattern.zeros) expected = PatternBreak{r, c, zeros};
      }
    }
    ASSERT_EQ(found.has_value(), expected.has_value());
    if (!found) continue;
    EXPECT_EQ(found->row, expected->row);
    EXPECT_EQ(found->column, expected->column);
    EXPECT_EQ(found->zeros, expected->zeros);
  }
}

}  // namespace
}  // namespace nibble
