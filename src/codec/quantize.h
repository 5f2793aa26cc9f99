// SPDX-License-Identifier: Apache-2.0
// Weights to codes and back, and activations as a quantizing runtime would see them (compressed-tensors
// forward.py on CPU). Parameters come from ranges (qparams.h); who finds the ranges is the caller's
// business (observers, solvers).
//
// Where the reference refuses a matrix whose columns are not a multiple of group_size, the last group is
// shorter here.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/tensor.h"
#include "base/thread_pool.h"
#include "codec/qparams.h"
#include "codec/scheme.h"
#include "kernels/quantize_rows.h"

namespace nibble {

// The smallest and largest value of every unit, row-major over the unit grid.
struct UnitRanges {
  std::vector<float> min;
  std::vector<float> max;
};

// Smallest and largest value of a whole tensor, NaN if it holds one. Siblings that share a global scale merge
// theirs.
struct ValueRange {
  float min = 0;
  float max = 0;

  void include(const ValueRange& other);
};
ValueRange range_of(ThreadPool& pool, const Tensor& weight);

// Scale and zero point of a weight.
struct WeightParams {
  Tensor scale;       // dtype of ScaleRule::scale_dtype(), shape scale_shape()
  Tensor zero_point;  // I8, the scale's shape; no elements when symmetric
  std::optional<float> global_scale;
  // Group of each column (act-order by group); empty: column / group_size.
  std::vector<std::int32_t> g_idx;
};

// Two dimensions and dtype F32, F16 or BF16: what the functions below take.
Status check_quantizable(const Tensor& weight);

// `weight` is F32, F16 or BF16 with two dimensions; `args` is validated. A unit with a NaN has NaN for a
// range. Blocks that stick out over the edge contain zeros there.
UnitRanges observe_ranges(ThreadPool& pool, const Tensor& weight, const QuantizationArgs& args,
                          std::span<const std::int32_t> g_idx = {});

// `global_scale` is for siblings that share one (tensor_group); without it the ranges give it. An error when
// a range is not finite: it says which unit.
Result<WeightParams> params_from_ranges(const QuantizationArgs& args, DType dtype, std::int64_t rows,
                                        std::int64_t cols, const UnitRanges& ranges,
                                        std::optional<float> global_scale = std::nullopt,
                                        std::span<const std::int32_t> g_idx = {});

// Plain min-max parameters: observe_ranges and params_from_ranges.
Result<WeightParams> min_max_params(ThreadPool& pool, const Tensor& weight, const QuantizationArgs& args,
                                    std::optional<float> global_scale = std::nullopt);

kernels::CodeFormat code_format(const QuantizationArgs& args);
DType code_dtype(const QuantizationArgs& args);  // I8, F8_E4M3, or U8 holding one E2M1 nibble

// One weight's quantizer, applied row by row from any thread. `input` is the dtype of the rows given to it,
// which need not be the weight's: solvers work in F32 while scales are BF16.
class WeightQuantizer {
 public:
  // Fails when the parameters do not fit the shape: scale shape, g_idx that does not fill its groups.
  static Result<WeightQuantizer> create(const QuantizationArgs& args, DType input, std::int64_t rows,
                                        std::int64_t cols, const WeightParams& params);

  void codes(std::int64_t row, const void* values, std::span<std::uint8_t> out) const;
  // Codes to values; `out` holds values of dtype product().
  void decode(std::int64_t row, std::span<const std::uint8_t> codes, std::span<float> out) const;
  // Quantize and dequantize; `out` may be `values`.
  void simulate(std::int64_t row, std::span<const float> values, std::span<float> out) const;

  // Scale (under the global scale) and zero point of one element, for solvers that go column by column.
  float scale_at(std::int64_t row, std::int64_t col) const;
  float zero_point_at(std::int64_t row, std::int64_t col) const;
  // The same for values with a scale and a zero point each (a column of a solver); `zero_points` is empty
  // exactly when symmetric, `out` may be `values`.
  void simulate_each(std::span<const float> values, std::span<const float> scales,
                     std::span<const float> zero_points, std::span<float> out) const;
  bool has_zero_points() const { return !zero_point_.empty(); }

  DType product() const { return quantizer_.product; }

 private:
  WeightQuantizer() = default;
  std::int64_t unit_row(std::int64_t row) const { return row / grid_.unit_rows * grid_.grid_cols(); }
  std::int64_t group_of(std::int64_t col) const;

  UnitGrid grid_;
  kernels::RowQuantizer quantizer_;
  std::vector<float> scale_;         // effective: scale / global scale
  std::vector<float> zero_point_;    // empty when symmetric
  std::vector<std::int32_t> order_;  // columns in the order of their groups; empty: as they are
  std::vector<std::int32_t> groups_;
};

// I8, F8_E4M3 or U8 [rows, cols].
Result<Tensor> quantize_weight(ThreadPool& pool, const Tensor& weight, const QuantizationArgs& args,
                               const WeightParams& params);
// `codes` as quantize_weight gives them; the result has dtype `output`, rounded from the scale's arithmetic.
Result<Tensor> dequantize_weight(ThreadPool& pool, const Tensor& codes, const QuantizationArgs& args,
                                 const WeightParams& params, DType output);
// The weight a runtime will compute with, in the weight's dtype.
Result<Tensor> simulate_weight(ThreadPool& pool, const Tensor& weight, const QuantizationArgs& args,
                               const WeightParams& params);

}  // namespace nibble
