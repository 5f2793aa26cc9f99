// SPDX-License-Identifier: Apache-2.0
// What `inspect` tells about a tensor: range, moments, zeros, values that are not finite, the 2:4 pattern.
// One pass, in fixed chunks whose results are combined in order, so the numbers are the same for any number
// of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "base/tensor.h"
#include "base/thread_pool.h"

namespace nibble {

struct TensorStatistics {
  std::int64_t count = 0;
  std::int64_t zeros = 0;
  std::int64_t nans = 0;
  std::int64_t infinities = 0;
  // Of the finite values; 0 when there are none.
  double minimum = 0, maximum = 0, mean = 0, deviation = 0;  // standard deviation over all of them
  double absolute_mean = 0, absolute_maximum = 0;
  double kurtosis = 0;  // fourth moment over the squared variance: 3 for a normal distribution
  // Groups of four neighbours in a row, and how many of them have at least two zeros (2:4 sparsity).
  std::int64_t groups_of_four = 0, two_of_four_zero = 0;

  std::int64_t finite() const { return count - nans - infinities; }
  double sparsity() const { return count > 0 ? static_cast<double>(zeros) / static_cast<double>(count) : 0; }
  bool is_two_four() const { return groups_of_four > 0 && two_of_four_zero == groups_of_four; }
};

TensorStatistics tensor_statistics(const Tensor& tensor, ThreadPool& pool);

// Counts of finite values in `bins` equal parts of [low, high]; values outside fall into the first or last.
std::vector<std::int64_t> tensor_histogram(const Tensor& tensor, double low, double high, int bins,
                                           ThreadPool& pool);

}  // namespace nibble
