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
  return *this;
}

InputStatistics::InputStatistics(std::int64_t cols, InputWishes wishes, std::int64_t block_rows)
    : cols_(cols), wishes_(wishes), block_rows_(block_rows) {
  const auto width = static_cast<std::size_t>(wishes.columns ? cols : 0);
  abs_sum_.resize(width);
  square_sum_.resize(width);
  min_.resize(width, std::numeric_limits<float>::infinity());
  max_.resize(width, -std::numeric_limits<float>::infinity());
  const int parts = wishes.shift ? kHalves : wishes.hessian ? 1 : 0;
  for (int i = 0; i < parts; ++i) parts_.emplace_back(cols, wishes.shift);
}

std::vector<InputStatistics::Run> InputStatistics::runs(const Chunk& chunk,
                                                        const ActivationRows& rows) const {
  const bool halves = wishes_.shift;
  if (rows.mask == nullptr && !halves) return {{0, rows.rows, 0}};
  const bool routed = rows.rows != chunk.rows();
  std::vector<Run> result;
  for (std::int64_t r = 0; r < rows.rows; ++r) {
    if (rows.mask != nullptr && rows.mask[r] == 0) continue;
    const std::int64_t sequence = chunk.first_sequence + (routed ? 0 : r / chunk.batch.length);
    const int half = halves ? static_cast<int>(sequence % kHalves) : 0;
    if (!result.empty() && result.back().half == half && result.back().first + result.back().count == r) {
      ++result.back().count;
    } else {
      result.push_back({r, 1, half});
    }
  }
  return result;
}

void InputStatistics::add(ThreadPool& pool, const Chunk& chunk, const ActivationRows& rows) {
  CHECK(!wishes_.shift || rows.original != nullptr, "a shift needs the original inputs");
  sequences_ += chunk.batch.sequences;
  for (const Run& run : runs(chunk, rows)) {
    const float* x = rows.x + run.first * cols_;
    tokens_ += run.count;
    if (wishes_.columns) add_columns(pool, x, run.count);
    if (parts_.empty()) continue;
    const float* original = wishes_.shift ? rows.original + run.first * cols_ : nullptr;
    add_moments(pool, parts_[static_cast<std::size_t>(run.half)], x, original, run.count);
  }
  if (parts_.size() == 1) {
    parts_[0].moments.add(pool, nullptr, 0, cols_, chunk.batch.sequences);
    return;
  }
  for (std::int64_t s = 0; s < chunk.batch.sequences && !parts_.empty(); ++s) {
    parts_[static_cast<std::size_t>((chunk.first_sequence + s) % kHalves)].moments.add(pool, nullptr, 0,
                                                                                       cols_, 1);
  }
}

void InputStatistics::add_columns(ThreadPool& pool, const float* x, std::int64_t rows) {
  pool.parallel_for(cols_, 128, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = first; c < last; ++c) {
        const float value = x[r * cols_ + c];
        const auto at = static_cast<std::size_t>(c);
        abs_sum_[at] += static_cast<double>(std::fabs(value));
        square_sum_[at] += static_cast<double>(value) * static_cast<double>(value);
        min_[at] = std::min(min_[at], value);
        max_[at] = std::max(max_[at], value);
      }
    }
  });
}

void InputStatistics::add_moments(ThreadPool& pool, Part& part, const float* x, const float* original,
                                  std::int64_t rows) {
  while (rows > 0) {
    std::int64_t taken = std::min(rows, block_rows_ - part.waiting);
    if (taken == block_rows_) {
      sum(pool, part, x, original, taken);
    } else {
      const auto bytes = static_cast<std::size_t>(taken * cols_) * sizeof(float);
      if (part.x.empty()) part.x = Matrix(block_rows_, cols_);
      if (original != nullptr && part.original.empty()) part.original = Matrix(block_rows_, cols_);
      std::memcpy(part.x.row(part.waiting).data(), x, bytes);
      if (original != nullptr) std::memcpy(part.original.row(part.waiting).data(), original, bytes);
      part.waiting += taken;
      if (part.waiting == block_rows_) {
        sum(pool, part, part.x.data(), part.original.data(), part.waiting);
        part.waiting = 0;
      }
    }
    x += taken * cols_;
    if (original != nullptr) original += taken * cols_;
    rows -= taken;
  }
}

void InputStatistics::sum(ThreadPool& pool, Part& part, const float* x, const float* original,
                          std::int64_t rows) {
  part.moments.add(pool, x, rows, cols_, 0);
  if (wishes_.shift) part.shift.add(pool, x, original, rows, cols_);
}

Status InputStatistics::finish(ThreadPool& pool) {
  if (tokens_ == 0) {
    min_.clear();
    max_.clear();
    return {};
  }
  for (Part& part : parts_) {
    if (part.waiting > 0) sum(pool, part, part.x.data(), part.original.data(), part.waiting);
    part.waiting = 0;
    part.x = Matrix();
    part.original = Matrix();
  }
  TRY(finish_moments());
  return wishes_.shift ? finish_shift() : Status();
}

// The totals are the sums of the halves; a half without a sequence stays empty. Every accumulator goes as
// soon as its result is there: at 11,000 columns each is half a gigabyte.
Status InputStatistics::finish_moments() {
  if (parts_.empty()) return {};
  for (Part& part : parts_) {
    if (!wishes_.shift || part.moments.tokens() == 0) continue;
    TRY_ASSIGN(part.hessian, part.moments.finish());
  }
  if (parts_.size() == kHalves) {
    parts_[0].moments.merge(parts_[1].moments);
    parts_[1].moments = HessianAccumulator(0);
  }
  TRY_ASSIGN(hessian_, parts_[0].moments.finish());
  parts_[0].moments = HessianAccumulator(0);
  return {};
}

Status InputStatistics::finish_shift() {
  for (Part& part : parts_) {
    if (part.shift.tokens() == 0) continue;
    TRY_ASSIGN(part.result, part.shift.finish());
  }
  parts_[0].shift.merge(parts_[1].shift);
  parts_[1].shift = InputShiftAccumulator(0);
  TRY_ASSIGN(shift_, parts_[0].shift.finish());
  parts_[0].shift = InputShiftAccumulator(0);
  return {};
}

std::vector<float> InputStatistics::abs_mean() const {
  return means(abs_sum_, tokens_);
}

std::vector<float> InputStatistics::square_mean() const {
  return means(square_sum_, tokens_);
}

const Hessian* InputStatistics::half_hessian(int half) const {
  const auto at = static_cast<std::size_t>(half);
  return at < parts_.size() && parts_[at].hessian ? &*parts_[at].hessian : nullptr;
}

const InputShift* InputStatistics::half_shift(int half) const {
  const auto at = static_cast<std::size_t>(half);
  return at < parts_.size() && parts_[at].result ? &*parts_[at].result : nullptr;
}

}  // namespace nibble
