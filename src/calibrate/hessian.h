// SPDX-License-Identifier: Apache-2.0
// Second moments of the inputs of a linear: what GPTQ, SparseGPT, AWQ's exact objective and the target shift
// are computed from. Sums run in fp32 over a limited number of tokens and are then added to fp64 totals, so
// their error does not grow with the length of the calibration.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"
#include "base/thread_pool.h"

namespace nibble {

// H = (1 / tokens) sum x x^T over the calibration tokens, with what is needed to scale it otherwise.
struct Hessian {
  Matrix values;             // [cols, cols], symmetric
  std::vector<double> mean;  // E[x], cols values; what was subtracted when `centred`
  std::int64_t tokens = 0;
  std::int64_t sequences = 0;
  bool centred = false;  // values = E[(x - mean)(x - mean)^T]

  std::int64_t cols() const { return values.rows(); }
  // The reference's scale: (2 / sequences) sum x x^T. Only losses depend on it.
  double reference_scale() const {
    return 2.0 * static_cast<double>(tokens) / static_cast<double>(sequences);
  }
};

// The same about its mean.
Hessian centred(Hessian hessian);

class HessianAccumulator {
 public:
  explicit HessianAccumulator(std::int64_t cols);

  // Adds `tokens` rows of `inputs` (row distance `stride`) that come from `sequences` sequences.
  void add(ThreadPool& pool, const float* inputs, std::int64_t tokens, std::int64_t stride,
           std::int64_t sequences);
  // Adds the totals of another accumulator of the same width.
  void merge(ThreadPool& pool, HessianAccumulator& other);

  std::int64_t cols() const { return cols_; }
  std::int64_t tokens() const { return tokens_; }
  std::int64_t sequences() const { return sequences_; }

  // The mean over tokens. Fails when no token was added or a sum is not finite (an input was NaN or
  // infinite).
  Result<Hessian> finish(ThreadPool& pool, bool centred = false);

  // No more tokens are near: gives back what only sums of many of them need.
  void settle(ThreadPool& pool);

 private:
  // Adds the partial sums to the totals; none are pending then.
  void flush(ThreadPool& pool);

  std::int64_t cols_;
  std::int64_t tokens_ = 0;
  std::int64_t sequences_ = 0;
  std::int64_t pending_ = 0;  // tokens in partial_
  Matrix partial_;  // upper triangle, arbitrary when nothing is pending; from the first token to settle()
  std::vector<double> totals_;
  std::vector<double> sums_;
};

// (1 / tokens) sum (x_original - x) x^T: how the inputs of the partly compressed model deviate from those of
// the original one, correlated with the former. What target_shift.h needs beside the Hessian.
struct InputShift {
  Matrix values;             // [cols, cols]; row = component of the deviation
  std::vector<double> mean;  // E[x_original - x]
  std::int64_t tokens = 0;
};

// The same about the means: E[(d - E d)(x - E x)^T] with d = x_original - x.
InputShift centred(InputShift shift, std::span<const double> input_mean);

class InputShiftAccumulator {
 public:
  explicit InputShiftAccumulator(std::int64_t cols);
  // Both arrays hold `tokens` rows with row distance `stride`.
  void add(ThreadPool& pool, const float* inputs, const float* original_inputs, std::int64_t tokens,
           std::int64_t stride);
  std::int64_t tokens() const { return tokens_; }
  // The means over tokens; takes the sums away.
  Result<InputShift> finish(ThreadPool& pool);

 private:
  Matrix sum_;  // arbitrary before the first token
  std::vector<double> deviation_;
  std::int64_t tokens_ = 0;
};

}  // namespace nibble
