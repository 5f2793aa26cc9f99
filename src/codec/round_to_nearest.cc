// SPDX-License-Identifier: Apache-2.0
// Round to nearest in one pass: where units lie within rows, a row is observed, quantized and packed while it
// is in the cache, so the weight is read from memory once. The bits are those of min_max_params and
// from_weight.
#include <atomic>

#include <cmath>

#include "codec/compressed_weight.h"
#include "kernels/quantize_rows.h"

namespace nibble {
namespace {

constexpr std::int64_t kRoundGrain = 16;

bool units_lie_in_rows(const QuantizationArgs& args) {
  return args.strategy == Strategy::kChannel || args.strategy == Strategy::kGroup ||
         args.strategy == Strategy::kTensorGroup;
}

// What one thread needs for a row; one allocation a chunk of rows.
struct RowScratch {
  RowScratch(const UnitGrid& grid, bool has_zero, bool has_stats)
      : min(static_cast<std::size_t>(grid.grid_cols())),
        max(min.size()),
        scale(min.size()),
        effective(min.size()),
        zero(has_zero ? min.size() : 0),
        codes(static_cast<std::size_t>(grid.cols)),
        stored(has_stats ? codes.size() : 0) {}

  std::vector<float> min, max, scale, effective, zero;
  std::vector<std::uint8_t> codes;
  std::vector<float> stored;
};

class RowRounder {
 public:
  RowRounder(const Tensor& weight, const QuantizationArgs& args, std::optional<float> global_scale)
      : weight_(weight),
        grid_(unit_grid(args, weight.dim(0), weight.dim(1))),
        rule_(args, weight.dtype(), global_scale),
        divisor_(global_scale.value_or(1.0f)) {
    quantizer_ = {.input = weight.dtype(),
                  .quotient = rule_.scale_dtype(),
                  .product = rule_.scale_dtype(),
                  .format = code_format(args),
                  .code_min = static_cast<float>(args.code_min()),
                  .code_max = static_cast<float>(args.code_max())};
  }

  const UnitGrid& grid() const { return grid_; }
  const std::byte* row_values(std::int64_t row) const {
    const std::size_t width = static_cast<std::size_t>(grid_.cols) * dtype_bytes(weight_.dtype());
    return weight_.bytes().data() + static_cast<std::size_t>(row) * width;
  }

  // Fills the scratch; false when a unit of the row has no finite scale.
  bool round(std::int64_t row, RowScratch& s) const {
    const std::byte* values = row_values(row);
    kernels::range_row(weight_.dtype(), values, grid_.cols, grid_.unit_cols, s.min.data(), s.max.data());
    for (std::size_t u = 0; u < s.scale.size(); ++u) {
      const ScaleZero found = rule_(s.min[u], s.max[u]);
      if (!std::isfinite(s.max[u] - s.min[u]) || !std::isfinite(found.scale)) return false;
      s.scale[u] = found.scale;
      s.effective[u] = found.scale / divisor_;
      if (!s.zero.empty()) s.zero[u] = found.zero_point;
    }
    const float* zero = s.zero.empty() ? nullptr : s.zero.data();
    kernels::quantize_row(quantizer_, values, grid_.cols, grid_.unit_cols, s.effective.data(), zero,
                          s.codes.data());
    if (s.stored.empty()) return true;
    kernels::dequantize_row(quantizer_.format, quantizer_.product, s.codes.data(), grid_.cols,
                            grid_.unit_cols, s.effective.data(), zero, s.stored.data());
    return true;
  }

 private:
  const Tensor& weight_;
  UnitGrid grid_;
  ScaleRule rule_;
  float divisor_;
  kernels::RowQuantizer quantizer_;
};

}  // namespace

Result<CompressedWeight> CompressedWeight::round_to_nearest(ThreadPool& pool, const Tensor& weight,
                                                            const QuantizationArgs& args,
                                                            CompressionFormat format,
                                                            std::optional<float> global_scale,
                                                            ErrorStats* stats) {
  TRY(check_quantizable(weight));
  const auto in_two_passes = [&]() -> Result<CompressedWeight> {
    TRY_ASSIGN(const WeightParams params, min_max_params(pool, weight, args, global_scale));
    return from_weight(pool, weight, args, format, params, stats);
  };
  if (!units_lie_in_rows(args) || format == CompressionFormat::kDense) return in_two_passes();
  if (args.strategy == Strategy::kTensorGroup && !global_scale) {
    const ValueRange range = range_of(pool, weight);
    global_scale = global_scale_of(weight.dtype(), range.min, range.max);
  }
  const RowRounder rounder(weight, args, global_scale);
  const std::int64_t rows = weight.dim(0);
  const auto units = static_cast<std::size_t>(rounder.grid().grid_cols());
  TRY_ASSIGN(CompressedWeight out, empty(args, format, rows, weight.dim(1), weight.dtype(), false));
  if (global_scale && args.strategy == Strategy::kTensorGroup) {
    out.tensors_.at("weight_global_scale").as_mutable<float>()[0] = *global_scale;
  }
  Tensor zeros(DType::kI8, {args.symmetric ? 0 : rows, rounder.grid().grid_cols()});
  const auto zero_codes = zeros.as_mutable<std::int8_t>();
  std::vector<RowErrors> errors(stats == nullptr ? 0 : static_cast<std::size_t>(rows));
  std::atomic<bool> is_finite{true};
  pool.parallel_for(rows, kRoundGrain, [&](std::int64_t first, std::int64_t last) {
    RowScratch scratch(rounder.grid(), !args.symmetric, stats != nullptr);
    for (std::int64_t r = first; r < last; ++r) {
      if (!rounder.round(r, scratch)) return is_finite.store(false);
      out.store_codes(r, scratch.codes);
      out.store_scale_row(r, scratch.scale);
      const std::size_t at = static_cast<std::size_t>(r) * units;
      for (std::size_t u = 0; u < scratch.zero.size(); ++u)
        zero_codes[at + u] = static_cast<std::int8_t>(scratch.zero[u]);
      if (stats != nullptr) {
        errors[static_cast<std::size_t>(r)].add(weight.dtype(), rounder.row_values(r), scratch.stored);
      }
    }
  });
  if (!is_finite.load()) return in_two_passes();  // finds the place and says it
  for (const RowErrors& row : errors) stats->add(row);
  if (!args.symmetric) out.store_zero_points(zeros);
  return out;
}

}  // namespace nibble
