// SPDX-License-Identifier: Apache-2.0
#include "calibrate/grid_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nibble {
namespace {

QuantizationArgs search_args(QuantizationArgs args) {
  if (args.strategy == Strategy::kTensorGroup) args.scale_dtype.reset();
  return args;
}

}  // namespace

int ObserverSettings::steps() const {
  const int shrinks = static_cast<int>(maxshrink * grid);
  return uses_importance ? std::max(1, shrinks) + 1 : shrinks;
}

GridSearch::Improvements::Improvements(std::size_t units, int steps)
    : stride(static_cast<std::size_t>(steps + 63) / 64), words(units * stride) {}

GridSearch::GridSearch(const QuantizationArgs& args, const ObserverSettings& settings, DType dtype)
    : settings_(settings),
      dtype_(dtype),
      rule_(search_args(args), dtype),
      has_zero_point_(!args.symmetric),
      steps_(settings.steps()) {
  quantizer_ = {.input = DType::kF32,
                .quotient = dtype,
                .product = dtype,
                .format = code_format(args),
                .code_min = static_cast<float>(args.code_min()),
                .code_max = static_cast<float>(args.code_max())};
  // The reference's power takes its exponent in the tensor's dtype, too: 2.4 is 2.40625 in BF16.
  const DType rounding = settings.uses_importance ? DType::kF32 : dtype;
  norm_ = {round_to(rounding, static_cast<float>(settings.norm)), rounding};
}

float GridSearch::shrunk(float limit, int step) const {
  return round_to(dtype_, limit * static_cast<float>(1.0 - step / settings_.grid));
}

float GridSearch::error_of(double sum) const {
  return round_to(norm_.rounding, static_cast<float>(sum));
}

float GridSearch::worst_error() const {
  switch (norm_.rounding) {
    case DType::kF16:
      return 65504.0f;
    case DType::kBF16:
      return 0x1.fep127f;
    default:
      return std::numeric_limits<float>::max();
  }
}

void GridSearch::expand(UnitRanges& ranges, std::size_t first, std::size_t count) const {
  const auto factor = static_cast<float>(settings_.expand);
  for (std::size_t u = first; u < first + count; ++u) {
    ranges.min[u] = round_to(dtype_, ranges.min[u] * factor);
    ranges.max[u] = round_to(dtype_, ranges.max[u] * factor);
  }
}

void GridSearch::search_row(const float* values, std::int64_t cols, std::int64_t unit_cols,
                            std::span<const float> importance, std::size_t first_unit,
                            const UnitRanges& ranges, Improvements& improvements) const {
  const auto units = static_cast<std::size_t>((cols + unit_cols - 1) / unit_cols);
  std::vector<float> best(units, worst_error());
  std::vector<float> scale(units);
  std::vector<float> zero(units);
  std::vector<double> sums(units);
  for (int step = 0; step < steps_; ++step) {
    for (std::size_t u = 0; u < units; ++u) {
      const ScaleZero found = candidate(ranges.min[first_unit + u], ranges.max[first_unit + u], step);
      scale[u] = found.scale;
      zero[u] = found.zero_point;
    }
    std::fill(sums.begin(), sums.end(), 0.0);
    kernels::error_row(quantizer_, norm_, values, cols, unit_cols, scale.data(),
                       has_zero_point_ ? zero.data() : nullptr,
                       importance.empty() ? nullptr : importance.data(), sums.data());
    for (std::size_t u = 0; u < units; ++u) {
      const float error = error_of(sums[u]);
      if (!(error < best[u])) continue;
      best[u] = error;
      improvements.set(first_unit + u, step);
    }
  }
}

void GridSearch::finish(UnitRanges& ranges, const Improvements& improvements) const {
  std::vector<std::uint64_t> any(improvements.stride);
  for (std::size_t i = 0; i < improvements.words.size(); ++i)
    any[i % improvements.stride] |= improvements.words[i];
  int end = steps_;
  int idle = 0;
  const bool is_endless = settings_.uses_importance && settings_.patience == 0;
  for (int step = 0; step < steps_; ++step) {
    const bool improved = (any[static_cast<std::size_t>(step) / 64] & Improvements::bit(step)) != 0;
    idle = improved ? 0 : idle + 1;
    if (!improved && idle >= settings_.patience && !is_endless) {
      end = step;
      break;
    }
  }
  for (std::size_t u = 0; u < ranges.min.size(); ++u) {
    int step = end - 1;
    while (step > 0 && !improvements.get(u, step)) --step;
    if (step <= 0) continue;  // the first step is the range itself
    ranges.min[u] = shrunk(ranges.min[u], step);
    ranges.max[u] = shrunk(ranges.max[u], step);
  }
}

UnitRanges GridSearch::columns(ThreadPool& pool, const float* x, std::int64_t rows, std::int64_t cols,
                               std::int64_t unit_cols, const UnitRanges& start,
                               std::span<const float> importance) const {
  UnitRanges ranges = start;
  const std::size_t units = ranges.min.size();
  expand(ranges, 0, units);
  Improvements improvements(units, steps_);
  std::vector<float> best(units, worst_error());
  std::vector<float> scale(units);
  std::vector<float> zero(units);
  std::vector<double> sums(static_cast<std::size_t>(rows) * units);
  for (int step = 0; step < steps_; ++step) {
    for (std::size_t u = 0; u < units; ++u) {
      const ScaleZero found = candidate(ranges.min[u], ranges.max[u], step);
      scale[u] = found.scale;
      zero[u] = found.zero_point;
    }
    std::fill(sums.begin(), sums.end(), 0.0);
    pool.parallel_for(rows, 8, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t r = first; r < last; ++r) {
        kernels::error_row(quantizer_, norm_, x + r * cols, cols, unit_cols, scale.data(),
                           has_zero_point_ ? zero.data() : nullptr,
                           importance.empty() ? nullptr : importance.data(),
                           sums.data() + static_cast<std::size_t>(r) * units);
      }
    });
    for (std::size_t u = 0; u < units; ++u) {
      double total = 0;
      for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) total += sums[r * units + u];
      const float error = error_of(total);
      if (!(error < best[u])) continue;
      best[u] = error;
      improvements.set(u, step);
    }
  }
  finish(ranges, improvements);
  return ranges;
}

}  // namespace nibble
