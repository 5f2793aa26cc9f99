// SPDX-License-Identifier: Apache-2.0
#include "calibrate/input_statistics.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace nibble {
namespace {

std::vector<float> means(const std::vector<double>& sums, std::int64_t tokens) {
  if (tokens == 0) return {};
  std::vector<float> result(sums.size());
  for (std::size_t c = 0; c < sums.size(); ++c)
    result[c] = static_cast<float>(sums[c] / static_cast<double>(tokens));
  return result;
}

}  // namespace

InputWishes& InputWishes::operator|=(const InputWishes& other) {
  columns |= other.columns;
  hessian |= other.hessian;
  shift |= other.shift;
  sample_stride = std::max(sample_stride, other.sample_stride);
  compared_sequences = std::max(compared_sequences, other.compared_sequences);
  return *this;
}

InputStatistics::InputStatistics(std::int64_t cols, InputWishes wishes, std::int64_t block_rows)
    : cols_(cols), wishes_(wishes), block_rows_(block_rows) {
  const auto width = static_cast<std::size_t>(wishes.columns ? cols : 0);
  abs_sum_.resize(width);
  square_sum_.resize(width);
  min_.resize(width, std::numeric_limits<float>::infinity());
  max_.resize(width, -std::numeric_limits<float>::infinity());
}

int InputStatistics::part_of(std::int64_t sequence) const {
  const bool is_compared = wishes_.shift && sequence < wishes_.compared_sequences;
  return is_compared ? static_cast<int>(sequence % kHalves) : kNotCompared;
}

std::vector<InputStatistics::Run> InputStatistics::runs(const Chunk& chunk,
                                                        const ActivationRows& rows) const {
  if (rows.mask == nullptr && !wishes_.shift) return {{0, rows.rows, kNotCompared}};
  const bool routed = rows.rows != chunk.rows();
  std::vector<Run> result;
  for (std::int64_t r = 0; r < rows.rows; ++r) {
    if (rows.mask != nullptr && rows.mask[r] == 0) continue;
    const int part = part_of(chunk.first_sequence + (routed ? 0 : r / chunk.batch.length));
    if (!result.empty() && result.back().part == part && result.back().first + result.back().count == r) {
      ++result.back().count;
    } else {
      result.push_back({r, 1, part});
    }
  }
  return result;
}

void InputStatistics::add(ThreadPool& pool, const Chunk& chunk, const ActivationRows& rows) {
  sequences_ += chunk.batch.sequences;
  for (const Run& run : runs(chunk, rows)) {
    const float* x = rows.x + run.first * cols_;
    if (wishes_.sample_stride > 0) add_sample(x, run.count);
    tokens_ += run.count;
    if (wishes_.columns) add_columns(pool, x, run.count);
    if (!wishes_.hessian && !wishes_.shift) continue;
    CHECK(run.part == kNotCompared || rows.original != nullptr, "a shift needs the original inputs");
    const float* original = run.part == kNotCompared ? nullptr : rows.original + run.first * cols_;
    add_moments(pool, run.part, x, original, run.count);
  }
  if (!wishes_.hessian && !wishes_.shift) return;
  for (std::int64_t s = 0; s < chunk.batch.sequences; ++s)
    moments(pool, part_of(chunk.first_sequence + s)).add(pool, nullptr, 0, cols_, 1);
}

void InputStatistics::add_sample(const float* x, std::int64_t rows) {
  const std::int64_t past = tokens_ % wishes_.sample_stride;
  for (std::int64_t r = past == 0 ? 0 : wishes_.sample_stride - past; r < rows; r += wishes_.sample_stride)
    sampled_.insert(sampled_.end(), x + r * cols_, x + (r + 1) * cols_);
}

// In the order of rows whatever the chunks are. Four rows a pass over the totals.
void InputStatistics::add_columns(ThreadPool& pool, const float* x, std::int64_t rows) {
  const auto add = [this](const float* row, std::int64_t stride, int count, std::int64_t first,
                          std::int64_t last) {
    double* const abs_sum = abs_sum_.data();
    double* const square_sum = square_sum_.data();
    for (std::int64_t c = first; c < last; ++c) {
      double sum = abs_sum[c], squares = square_sum[c];
      for (int i = 0; i < count; ++i) {
        const auto value = static_cast<double>(row[i * stride + c]);
        sum += std::fabs(value);
        squares += value * value;
      }
      abs_sum[c] = sum;
      square_sum[c] = squares;
    }
    float* const least = min_.data();
    float* const most = max_.data();
    for (std::int64_t c = first; c < last; ++c) {
      for (int i = 0; i < count; ++i) {
        least[c] = std::min(least[c], row[i * stride + c]);
        most[c] = std::max(most[c], row[i * stride + c]);
      }
    }
  };
  pool.parallel_for(cols_, 128, [&](std::int64_t first, std::int64_t last) {
    std::int64_t r = 0;
    for (; r + 4 <= rows; r += 4) add(x + r * cols_, cols_, 4, first, last);
    for (; r < rows; ++r) add(x + r * cols_, cols_, 1, first, last);
  });
}

HessianAccumulator& InputStatistics::moments(ThreadPool& pool, int part) {
  auto& sum = part == kNotCompared ? rest_sum_ : compared_sum_;
  // Compared sequences come first.
  if (!sum && part == kNotCompared && compared_sum_) compared_sum_->settle(pool);
  if (!sum) sum.emplace(cols_);
  return *sum;
}

void InputStatistics::add_moments(ThreadPool& pool, int index, const float* x, const float* original,
                                  std::int64_t rows) {
  Part& part = parts_[static_cast<std::size_t>(index)];
  while (rows > 0) {
    std::int64_t taken = std::min(rows, block_rows_ - part.waiting);
    if (taken == block_rows_) {
      sum(pool, index, x, original, taken);
    } else {
      const auto bytes = static_cast<std::size_t>(taken * cols_) * sizeof(float);
      if (part.x.empty()) part.x = Matrix::for_overwrite(block_rows_, cols_);
      if (original != nullptr && part.original.empty())
        part.original = Matrix::for_overwrite(block_rows_, cols_);
      std::memcpy(part.x.row(part.waiting).data(), x, bytes);
      if (original != nullptr) std::memcpy(part.original.row(part.waiting).data(), original, bytes);
      part.waiting += taken;
      if (part.waiting == block_rows_) {
        sum(pool, index, part.x.data(), part.original.data(), part.waiting);
        part.waiting = 0;
      }
    }
    x += taken * cols_;
    if (original != nullptr) original += taken * cols_;
    rows -= taken;
  }
}

void InputStatistics::sum(ThreadPool& pool, int part, const float* x, const float* original,
                          std::int64_t rows) {
  moments(pool, part).add(pool, x, rows, cols_, 0);
  if (part == kNotCompared) return;
  auto& shift = shift_sums_[static_cast<std::size_t>(part)];
  if (!shift) shift.emplace(cols_);
  shift->add(pool, x, original, rows, cols_);
}

Status InputStatistics::finish(ThreadPool& pool) {
  if (tokens_ == 0) {
    min_.clear();
    max_.clear();
    return {};
  }
  for (int index = 0; index <= kHalves; ++index) {
    Part& part = parts_[static_cast<std::size_t>(index)];
    if (part.waiting > 0) sum(pool, index, part.x.data(), part.original.data(), part.waiting);
    part = Part();
  }
  if (!sampled_.empty()) {
    sample_ = Matrix::for_overwrite(static_cast<std::int64_t>(sampled_.size()) / cols_, cols_);
    std::ranges::copy(sampled_, sample_.values().begin());
    sampled_ = {};
  }
  TRY(finish_shift(pool));
  return finish_moments(pool);
}

// Every accumulator goes as soon as its result is there: at 11,000 columns each is half a gigabyte.
Status InputStatistics::finish_moments(ThreadPool& pool) {
  if (compared_sum_ && compared_sum_->tokens() == 0) compared_sum_.reset();
  if (compared_sum_ && rest_sum_) {
    TRY_ASSIGN(compared_, compared_sum_->finish(pool));
    rest_sum_->merge(pool, *compared_sum_);
    compared_sum_.reset();
  }
  auto& all = compared_sum_ ? compared_sum_ : rest_sum_;
  if (!all) return {};
  TRY_ASSIGN(hessian_, all->finish(pool));
  all.reset();
  return {};
}

Status InputStatistics::finish_shift(ThreadPool& pool) {
  for (std::size_t half = 0; half < kHalves; ++half) {
    if (!shift_sums_[half]) continue;
    TRY_ASSIGN(shifts_[half], shift_sums_[half]->finish(pool));
    shift_sums_[half].reset();
  }
  return {};
}

std::vector<float> InputStatistics::abs_mean() const {
  return means(abs_sum_, tokens_);
}

std::vector<float> InputStatistics::square_mean() const {
  return means(square_sum_, tokens_);
}

const InputShift* InputStatistics::half_shift(int half) const {
  const auto& shift = shifts_[static_cast<std::size_t>(half)];
  return shift ? &*shift : nullptr;
}

}  // namespace nibble
