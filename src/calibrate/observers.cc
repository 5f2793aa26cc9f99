// SPDX-License-Identifier: Apache-2.0
#include "calibrate/observers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "calibrate/grid_search.h"
#include "kernels/quantize_rows.h"

namespace nibble {
namespace {

const std::byte* row_bytes(const Tensor& tensor, std::int64_t row) {
  return tensor.bytes().data() + static_cast<std::size_t>(row * tensor.dim(1)) * dtype_bytes(tensor.dtype());
}

// Linear interpolation between the nearest ranks; reorders `values`.
float percentile_of(std::span<float> values, double percentile) {
  const double rank = percentile / 100 * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(rank);
  const auto at = [&](std::size_t i) {
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(i), values.end());
    return static_cast<double>(values[i]);
  };
  const double low = at(below);
  const double high = below + 1 < values.size() ? at(below + 1) : low;
  return static_cast<float>(low + (high - low) * (rank - static_cast<double>(below)));
}

void percentile_range(std::span<float> values, double percentile, float& min, float& max) {
  if (std::any_of(values.begin(), values.end(), [](float x) { return std::isnan(x); })) {
    min = max = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  min = percentile_of(values, 100 - percentile);
  max = percentile_of(values, percentile);
}

// Weights relative to their mean; empty means uniform.
Result<std::vector<float>> normalised_importance(const ObserverSettings& settings,
                                                 const QuantizationArgs& args,
                                                 std::span<const float> importance, std::int64_t cols) {
  std::vector<float> out;
  if (!settings.uses_importance) return out;
  const auto missing = [&](std::string_view why) -> Result<std::vector<float>> {
    if (!settings.strict) return std::vector<float>();
    return usage_error(fmt::format("the imatrix observer cannot weight its errors: {}", why),
                       "drop strict to fall back to uniform weights");
  };
  if (args.strategy == Strategy::kTensor || args.strategy == Strategy::kBlock) {
    return missing(fmt::format("strategy {} mixes columns", to_string(*args.strategy)));
  }
  if (importance.empty()) return missing("no data was seen");
  if (static_cast<std::int64_t>(importance.size()) != cols) {
    return missing(fmt::format("{} importances for {} columns", importance.size(), cols));
  }
  double sum = 0;
  for (const float value : importance) {
    if (!std::isfinite(value) || value < 0) return missing(fmt::format("an importance is {}", value));
    sum += static_cast<double>(value);
  }
  if (sum == 0) return missing("every importance is 0");
  const float mean = static_cast<float>(sum / static_cast<double>(cols)) + std::numeric_limits<float>::min();
  for (const float value : importance) out.push_back(value / mean);
  return out;
}

// Values of a weight as rows of units: its own rows, its columns regrouped by g_idx, or its blocks with zero
// padding.
class WeightRows {
 public:
  WeightRows(const Tensor& weight, const QuantizationArgs& args, std::span<const std::int32_t> g_idx)
      : weight_(weight),
        grid_(unit_grid(args, weight.dim(0), weight.dim(1))),
        is_block_(args.strategy == Strategy::kBlock) {
    if (g_idx.empty() || std::find(g_idx.begin(), g_idx.end(), -1) != g_idx.end()) return;
    order_.resize(g_idx.size());
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    std::stable_sort(order_.begin(), order_.end(),
                     [&](std::size_t a, std::size_t b) { return g_idx[a] < g_idx[b]; });
  }

  std::int64_t count() const { return is_block_ ? grid_.count() : grid_.rows; }
  std::int64_t cols() const { return is_block_ ? grid_.unit_rows * grid_.unit_cols : grid_.cols; }
  std::int64_t unit_cols() const { return is_block_ ? cols() : grid_.unit_cols; }
  // One weight a column in the order of the values.
  std::vector<float> arranged(const std::vector<float>& importance) const {
    if (order_.empty() || importance.empty()) return importance;
    std::vector<float> out;
    for (const std::size_t column : order_) out.push_back(importance[column]);
    return out;
  }

  void operator()(std::int64_t index, std::span<float> out) const {
    if (is_block_) return read_block(index, out);
    if (order_.empty()) {
      return kernels::widen_row(weight_.dtype(), row_bytes(weight_, index), grid_.cols, out.data());
    }
    std::vector<float> values(order_.size());
    kernels::widen_row(weight_.dtype(), row_bytes(weight_, index), grid_.cols, values.data());
    for (std::size_t i = 0; i < order_.size(); ++i) out[i] = values[order_[i]];
  }

 private:
  void read_block(std::int64_t index, std::span<float> out) const {
    std::fill(out.begin(), out.end(), 0.0f);
    const std::int64_t first_row = index / grid_.grid_cols() * grid_.unit_rows;
    const std::int64_t first_col = index % grid_.grid_cols() * grid_.unit_cols;
    const std::int64_t width = std::min(grid_.unit_cols, grid_.cols - first_col);
    const std::size_t element = dtype_bytes(weight_.dtype());
    for (std::int64_t r = 0; r < grid_.unit_rows && first_row + r < grid_.rows; ++r) {
      kernels::widen_row(weight_.dtype(),
                         row_bytes(weight_, first_row + r) + static_cast<std::size_t>(first_col) * element,
                         width, out.data() + r * grid_.unit_cols);
    }
  }

  const Tensor& weight_;
  UnitGrid grid_;
  bool is_block_;
  std::vector<std::size_t> order_;
};

UnitRanges search_weight(ThreadPool& pool, const Tensor& weight, const QuantizationArgs& args,
                         const ObserverSettings& settings, const std::vector<float>& importance,
                         std::span<const std::int32_t> g_idx) {
  const GridSearch search(args, settings, weight.dtype());
  if (args.strategy == Strategy::kTensor) {
    const std::vector<float> values = weight.to_f32();
    return search.columns(pool, values.data(), weight.dim(0), weight.dim(1), weight.dim(1),
                          observe_ranges(pool, weight, args), {});
  }
  const WeightRows rows(weight, args, g_idx);
  const std::vector<float> arranged = rows.arranged(importance);
  return search.rows(pool, rows.count(), rows.cols(), rows.unit_cols(), arranged, rows);
}

UnitRanges weight_percentiles(ThreadPool& pool, const Tensor& weight, const QuantizationArgs& args,
                              double percentile, std::span<const std::int32_t> g_idx) {
  UnitRanges out;
  if (args.strategy == Strategy::kTensor) {
    std::vector<float> values = weight.to_f32();
    out = {{0}, {0}};
    percentile_range(values, percentile, out.min[0], out.max[0]);
    return out;
  }
  const WeightRows rows(weight, args, g_idx);
  const std::int64_t units = (rows.cols() + rows.unit_cols() - 1) / rows.unit_cols();
  out.min.resize(static_cast<std::size_t>(rows.count() * units));
  out.max.resize(out.min.size());
  pool.parallel_for(rows.count(), 4, [&](std::int64_t first, std::int64_t last) {
    std::vector<float> values(static_cast<std::size_t>(rows.cols()));
    for (std::int64_t r = first; r < last; ++r) {
      rows(r, values);
      for (std::int64_t u = 0; u < units; ++u) {
        const auto begin = static_cast<std::size_t>(u * rows.unit_cols());
        const std::size_t size = std::min(static_cast<std::size_t>(rows.unit_cols()), values.size() - begin);
        const auto at = static_cast<std::size_t>(r * units + u);
        percentile_range(std::span(values).subspan(begin, size), percentile, out.min[at], out.max[at]);
      }
    }
  });
  return out;
}

// Ranges of runs of `width` columns over all rows, rounded to `dtype`, which keeps the order of values.
UnitRanges min_max_of(ThreadPool& pool, std::span<const float* const> rows, std::int64_t cols,
                      std::int64_t width, DType dtype) {
  const auto units = static_cast<std::size_t>((cols + width - 1) / width);
  UnitRanges parts{std::vector<float>(rows.size() * units), std::vector<float>(rows.size() * units)};
  pool.parallel_for(static_cast<std::int64_t>(rows.size()), 8, [&](std::int64_t first, std::int64_t last) {
    for (auto r = static_cast<std::size_t>(first); r < static_cast<std::size_t>(last); ++r) {
      kernels::range_row(DType::kF32, rows[r], cols, width, parts.min.data() + r * units,
                         parts.max.data() + r * units);
    }
  });
  UnitRanges out{std::vector<float>(units), std::vector<float>(units)};
  for (std::size_t u = 0; u < units; ++u) {
    ValueRange range{parts.min[u], parts.max[u]};
    for (std::size_t r = 1; r < rows.size(); ++r)
      range.include({parts.min[r * units + u], parts.max[r * units + u]});
    out.min[u] = round_to(dtype, range.min);
    out.max[u] = round_to(dtype, range.max);
  }
  return out;
}

UnitRanges percentiles_of(std::span<const float> values, std::int64_t cols, std::int64_t width,
                          double percentile) {
  UnitRanges out;
  for (std::int64_t first = 0; first < cols; first += width) {
    std::vector<float> unit;
    for (std::size_t row = 0; row < values.size(); row += static_cast<std::size_t>(cols)) {
      const auto part = values.subspan(row + static_cast<std::size_t>(first),
                                       static_cast<std::size_t>(std::min(width, cols - first)));
      unit.insert(unit.end(), part.begin(), part.end());
    }
    percentile_range(unit, percentile, out.min.emplace_back(), out.max.emplace_back());
  }
  return out;
}

}  // namespace

Result<UnitRanges> observe_weight(ThreadPool& pool, const Tensor& weight, const QuantizationArgs& args,
                                  std::span<const float> importance, std::span<const std::int32_t> g_idx) {
  TRY(check_quantizable(weight));
  TRY_ASSIGN(const ObserverSettings settings, observer_settings(args));
  switch (settings.statistic) {
    case ObserverSettings::Statistic::kMinMax:
      break;
    case ObserverSettings::Statistic::kPercentile:
      return weight_percentiles(pool, weight, args, settings.percentile, g_idx);
    case ObserverSettings::Statistic::kGridSearch: {
      TRY_ASSIGN(const std::vector<float> weights,
                 normalised_importance(settings, args, importance, weight.dim(1)));
      return search_weight(pool, weight, args, settings, weights, g_idx);
    }
  }
  return observe_ranges(pool, weight, args, g_idx);
}

Result<ActivationObserver> ActivationObserver::create(const QuantizationArgs& args, DType dtype,
                                                      std::int64_t head_dim) {
  TRY_ASSIGN(const ObserverSettings settings, observer_settings(args));
  CHECK(args.strategy != Strategy::kAttnHead || head_dim > 0, "attn_head needs the size of a head");
  return ActivationObserver(args, dtype, settings, head_dim);
}

std::int64_t ActivationObserver::run(std::int64_t cols) const {
  switch (*args_.strategy) {
    case Strategy::kAttnHead:
      return head_dim_;
    case Strategy::kGroup:
    case Strategy::kTensorGroup:
      return *args_.group_size;
    default:
      return cols;
  }
}

void ActivationObserver::observe(ThreadPool& pool, const float* x, std::int64_t rows, std::int64_t cols,
                                 const std::uint8_t* mask) {
  std::vector<const float*> kept;
  for (std::int64_t r = 0; r < rows; ++r) {
    if (mask == nullptr || mask[r] != 0) kept.push_back(x + r * cols);
  }
  if (kept.empty() || cols == 0) return;
  const std::int64_t width = run(cols);
  if (settings_.statistic == ObserverSettings::Statistic::kMinMax) {
    return remember(min_max_of(pool, kept, cols, width, dtype_));
  }
  std::vector<float> values(kept.size() * static_cast<std::size_t>(cols));
  const auto count = static_cast<std::int64_t>(kept.size());
  pool.parallel_for(count, 8, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      float* out = values.data() + r * cols;
      for (std::int64_t c = 0; c < cols; ++c) out[c] = round_to(dtype_, kept[static_cast<std::size_t>(r)][c]);
    }
  });
  if (settings_.statistic == ObserverSettings::Statistic::kPercentile) {
    return remember(percentiles_of(values, cols, width, settings_.percentile));
  }
  const UnitRanges start = min_max_of(pool, kept, cols, width, dtype_);
  remember(GridSearch(args_, settings_, dtype_).columns(pool, values.data(), count, cols, width, start, {}));
}

void ActivationObserver::remember(const UnitRanges& batch) {
  ++batches_;
  if (batches_ == 1 || settings_.memory == ObserverSettings::Memory::kLast) {
    ranges_ = batch;
    return;
  }
  CHECK(ranges_.min.size() == batch.min.size(), "batches of one module have one width");
  // Every operation is rounded to the model's dtype, as in the reference.
  const auto blend = [&](float before, float now, double weight) {
    const float kept = round_to(dtype_, before * static_cast<float>(1.0 - weight));
    return round_to(dtype_, kept + round_to(dtype_, now * static_cast<float>(weight)));
  };
  for (std::size_t u = 0; u < ranges_.min.size(); ++u) {
    float& min = ranges_.min[u];
    float& max = ranges_.max[u];
    if (settings_.memory == ObserverSettings::Memory::kExtremes) {
      ValueRange range{min, max};
      range.include({batch.min[u], batch.max[u]});
      min = range.min;
      max = range.max;
      continue;
    }
    const bool is_mean = settings_.memory == ObserverSettings::Memory::kMean;
    const double weight = is_mean ? 1.0 / static_cast<double>(batches_) : settings_.averaging_constant;
    min = blend(min, batch.min[u], weight);
    max = blend(max, batch.max[u], weight);
  }
}

Result<ActivationParams> ActivationObserver::params() const {
  if (!has_seen_data()) {
    return failed("no calibration token reached it, so it has no scale",
                  "use more samples, or put the module on the ignore list");
  }
  ActivationParams params;
  for (std::size_t u = 0; u < ranges_.min.size(); ++u) {
    if (std::isfinite(ranges_.min[u]) && std::isfinite(ranges_.max[u])) continue;
    return bad_data(
        fmt::format("activations are not finite: smallest {}, largest {}", ranges_.min[u], ranges_.max[u]));
  }
  if (args_.strategy == Strategy::kTensorGroup) {
    params.global_scale = global_scale_of(dtype_, *std::min_element(ranges_.min.begin(), ranges_.min.end()),
                                          *std::max_element(ranges_.max.begin(), ranges_.max.end()));
  }
  const ScaleRule rule(args_, dtype_, params.global_scale);
  std::vector<float> scales;
  std::vector<std::int8_t> zeros;
  for (std::size_t u = 0; u < ranges_.min.size(); ++u) {
    const ScaleZero found = rule(ranges_.min[u], ranges_.max[u]);
    scales.push_back(found.scale);
    zeros.push_back(static_cast<std::int8_t>(found.zero_point));
  }
  const auto units = static_cast<std::int64_t>(scales.size());
  const Shape shape = args_.strategy == Strategy::kAttnHead ? Shape{units, 1, 1} : Shape{units};
  params.scale = Tensor::from_f32(rule.scale_dtype(), shape, scales);
  if (!args_.symmetric)
    params.zero_point = Tensor::of<std::int8_t>(DType::kI8, shape, std::span<const std::int8_t>(zeros));
  return params;
}

}  // namespace nibble
