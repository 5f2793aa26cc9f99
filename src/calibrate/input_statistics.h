// SPDX-License-Identifier: Apache-2.0
// Everything that is learnt about one input that several linears may share (q, k and v; gate and up): column
// statistics, second moments, and their cross moments with the original model's input. Rows are gathered
// into blocks of a fixed size before they are summed, so that no sum depends on how they arrive.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"
#include "base/thread_pool.h"
#include "calibrate/hessian.h"
#include "calibrate/token_chunks.h"

namespace nibble {

struct InputWishes {
  bool columns = false;  // mean of |x| and of x^2, smallest and largest value
  bool hessian = false;
  // With the original model's inputs, on the first `compared_sequences`.
  bool shift = false;
  std::int64_t compared_sequences = 0;
  std::int64_t sample_stride = 0;  // keep every so many rows; 0: none

  InputWishes& operator|=(const InputWishes& other);
  bool any() const { return columns || hessian || shift || sample_stride > 0; }
};

// Rows that reach a linear. Where fewer rows than tokens arrive (routed experts) the chunk is one batch.
struct ActivationRows {
  const float* x = nullptr;
  const float* original = nullptr;  // the same rows in the original model; null behind those compared
  std::int64_t rows = 0;
  const std::uint8_t* mask = nullptr;
};

class InputStatistics {
 public:
  // Halves are those of even and odd sequences.
  static constexpr int kHalves = 2;

  // `block_rows` divides 4096: rows that are summed at once.
  InputStatistics(std::int64_t cols, InputWishes wishes, std::int64_t block_rows);

  void add(ThreadPool& pool, const Chunk& chunk, const ActivationRows& rows);
  // No more rows will come. Fails on values that are not finite; with no token at all everything is empty.
  Status finish(ThreadPool& pool);

  std::int64_t tokens() const { return tokens_; }
  std::int64_t sequences() const { return sequences_; }
  // Valid after finish(); empty or null where not wished or no token came.
  std::vector<float> abs_mean() const;
  std::vector<float> square_mean() const;
  const std::vector<float>& column_min() const { return min_; }
  const std::vector<float>& column_max() const { return max_; }
  const Matrix* sample() const { return sample_.empty() ? nullptr : &sample_; }
  const Hessian* hessian() const { return hessian_ ? &*hessian_ : nullptr; }
  // Of the compared sequences; the same object as hessian() when these are all.
  const Hessian* compared_hessian() const { return compared_ ? &*compared_ : hessian(); }
  const InputShift* half_shift(int half) const;

 private:
  // Rows that wait for a full block: of either compared half, or of the sequences that are not compared.
  static constexpr int kNotCompared = kHalves;
  struct Part {
    Matrix x, original;
    std::int64_t waiting = 0;
  };
  struct Run {
    std::int64_t first = 0, count = 0;
    int part = 0;
  };
  int part_of(std::int64_t sequence) const;
  HessianAccumulator& moments(ThreadPool& pool, int part);
  std::vector<Run> runs(const Chunk& chunk, const ActivationRows& rows) const;
  void add_sample(const float* x, std::int64_t rows);
  void add_columns(ThreadPool& pool, const float* x, std::int64_t rows);
  void add_moments(ThreadPool& pool, int part, const float* x, const float* original, std::int64_t rows);
  void sum(ThreadPool& pool, int part, const float* x, const float* original, std::int64_t rows);
  Status finish_moments(ThreadPool& pool);
  Status finish_shift(ThreadPool& pool);

  std::int64_t cols_;
  InputWishes wishes_;
  std::int64_t block_rows_;
  std::int64_t tokens_ = 0, sequences_ = 0;
  std::vector<double> abs_sum_, square_sum_;
  std::vector<float> min_, max_;
  std::vector<float> sampled_;
  Matrix sample_;
  std::array<Part, kHalves + 1> parts_;
  std::optional<HessianAccumulator> compared_sum_, rest_sum_;  // since their first token
  std::array<std::optional<InputShiftAccumulator>, kHalves> shift_sums_;
  std::optional<Hessian> hessian_, compared_;
  std::array<std::optional<InputShift>, kHalves> shifts_;
};

}  // namespace nibble
