// SPDX-License-Identifier: Apache-2.0
// Where the zeros of a weight lie: how many of each group of 4, 8, 16 and 32 inputs, in which patterns, in
// whole rows and columns, and whether they make an N:M structure (N zeros or more in every M consecutive
// columns of a row, as the recipes' mask_structure means it). A last group that is shorter counts as if zeros
// filled it up: N:M allows M - N values in every group. Only the mask is made, 64 elements to a word, so this
// is as fast as reading.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/tensor.h"
#include "base/thread_pool.h"

namespace nibble {

inline constexpr std::array<int, 4> kMaskGroups{4, 8, 16, 32};

struct MaskPattern {
  int zeros = 0, group = 0;  // "2:4"
  auto operator<=>(const MaskPattern&) const = default;
};
std::string to_string(const MaskPattern& pattern);

struct MaskStatistics {
  std::int64_t rows = 0, cols = 0;  // the last dimension is that of the inputs; a vector is one row
  std::int64_t zeros = 0;
  std::int64_t zero_rows = 0, zero_cols = 0;  // that hold nothing else
  // groups[i][k]: groups of kMaskGroups[i] columns with k zeros.
  std::array<std::array<std::int64_t, 33>, kMaskGroups.size()> groups{};
  // Groups of four by the places of their zeros: bit i is column 4 q + i.
  std::array<std::int64_t, 16> quads{};

  std::int64_t count() const { return rows * cols; }
  double sparsity() const;              // 0 of an empty tensor
  bool is_exactly_two_of_four() const;  // every four columns have two zeros, and none are left over
  std::int64_t groups_of(int group) const { return rows * ((cols + group - 1) / group); }
  // Groups with at least, or exactly, `pattern.zeros` zeros; its group is one of kMaskGroups.
  std::int64_t groups_met(const MaskPattern& pattern) const;
  std::int64_t groups_exact(const MaskPattern& pattern) const;
  // The pattern of the nearest whole number of zeros for each size of group; none where that is 0.
  std::vector<MaskPattern> nearest_patterns() const;
  // "2:4" when its groups all have it (smallest group first), "zero", "unstructured" from 1 % zeros on, or
  // "dense".
  std::string structure() const;
};

// Counts a tensor in blocks of rows, given in order.
class MaskCounter {
 public:
  explicit MaskCounter(std::int64_t cols);
  void add(const Tensor& rows, ThreadPool& pool);
  const MaskStatistics& finish();

 private:
  MaskStatistics statistics_;
  std::vector<std::uint64_t> zero_columns_;  // those that have been zero so far
};

// Rows and columns as the statistics see a shape: all but the last dimension, and the last; a convolution
// [out, in, height, width] has all that an output sees in its row.
std::pair<std::int64_t, std::int64_t> mask_shape(const Shape& shape);
MaskStatistics mask_statistics(const Tensor& tensor, ThreadPool& pool);

// The first group, in the order of rows and columns, that has too few zeros.
struct PatternBreak {
  std::int64_t row = 0, column = 0;  // of the group's first element
  int zeros = 0;                     // that it has, with those that fill it up
};
std::optional<PatternBreak> first_break(const Tensor& rows, const MaskPattern& pattern);

}  // namespace nibble
