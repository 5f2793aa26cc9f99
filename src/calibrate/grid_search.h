// SPDX-License-Identifier: Apache-2.0
// The search of the mse and imatrix observers: shrink every unit's range step by step and keep, unit by unit,
// the step with the smallest error of quantization. The search stops for all units together after `patience`
// steps that improve none; so every unit notes the steps at which it improved, and the common end is applied
// afterwards. That gives the reference's result while each row stays in the cache for all steps.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "calibrate/observers.h"
#include "codec/qparams.h"
#include "codec/quantize.h"
#include "kernels/quantize_rows.h"

namespace nibble {

class GridSearch {
 public:
  // `dtype` is that of the values. Scales of tensor_group are searched as plain scales: the global scale and
  // the rounding to E4M3 come after, as in the reference.
  GridSearch(const QuantizationArgs& args, const ObserverSettings& settings, DType dtype);

  // `count` rows, each [cols] with units of `unit_cols` values; `row(i, out)` gives the values of row i (on
  // dtype's grid). `importance` has one weight a column, or none.
  template <class Row>
  UnitRanges rows(ThreadPool& pool, std::int64_t count, std::int64_t cols, std::int64_t unit_cols,
                  std::span<const float> importance, const Row& row) const;
  // One set of units of `unit_cols` columns each, over all rows of x[rows, cols]. `start` has their minima
  // and maxima.
  UnitRanges columns(ThreadPool& pool, const float* x, std::int64_t rows, std::int64_t cols,
                     std::int64_t unit_cols, const UnitRanges& start,
                     std::span<const float> importance) const;

 private:
  // The steps at which each unit improved, as bits.
  struct Improvements {
    Improvements(std::size_t units, int steps);
    void set(std::size_t unit, int step) {
      words[unit * stride + static_cast<std::size_t>(step) / 64] |= bit(step);
    }
    bool get(std::size_t unit, int step) const {
      return (words[unit * stride + static_cast<std::size_t>(step) / 64] & bit(step)) != 0;
    }
    static std::uint64_t bit(int step) { return std::uint64_t{1} << (step % 64); }

    std::size_t stride;
    std::vector<std::uint64_t> words;
  };

  float shrunk(float limit, int step) const;
  ScaleZero candidate(float min, float max, int step) const {
    return rule_(shrunk(min, step), shrunk(max, step));
  }
  float error_of(double sum) const;
  float worst_error() const;
  void expand(UnitRanges& ranges, std::size_t first, std::size_t count) const;
  void search_row(const float* values, std::int64_t cols, std::int64_t unit_cols,
                  std::span<const float> importance, std::size_t first_unit, const UnitRanges& ranges,
                  Improvements& improvements) const;
  void finish(UnitRanges& ranges, const Improvements& improvements) const;

  ObserverSettings settings_;
  DType dtype_;
  ScaleRule rule_;
  bool has_zero_point_;
  int steps_;
  kernels::RowQuantizer quantizer_;
  kernels::ErrorNorm norm_;
};

template <class Row>
UnitRanges GridSearch::rows(ThreadPool& pool, std::int64_t count, std::int64_t cols, std::int64_t unit_cols,
                            std::span<const float> importance, const Row& row) const {
  const std::int64_t units = (cols + unit_cols - 1) / unit_cols;
  UnitRanges ranges{std::vector<float>(static_cast<std::size_t>(count * units)),
                    std::vector<float>(static_cast<std::size_t>(count * units))};
  Improvements improvements(ranges.min.size(), steps_);
  pool.parallel_for(count, 4, [&](std::int64_t first, std::int64_t last) {
    std::vector<float> values(static_cast<std::size_t>(cols));
    for (std::int64_t r = first; r < last; ++r) {
      row(r, std::span(values));
      const auto at = static_cast<std::size_t>(r * units);
      kernels::range_row(DType::kF32, values.data(), cols, unit_cols, ranges.min.data() + at,
                         ranges.max.data() + at);
      expand(ranges, at, static_cast<std::size_t>(units));
      search_row(values.data(), cols, unit_cols, importance, at, ranges, improvements);
    }
  });
  finish(ranges, improvements);
  return ranges;
}

}  // namespace nibble
