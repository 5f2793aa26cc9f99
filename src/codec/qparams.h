// SPDX-License-Identifier: Apache-2.0
// Scale and zero point from the range of a unit, in the reference's arithmetic: every elementary operation is
// rounded to the dtype of the observed tensor (compressed-tensors calculate_qparams). Units are what shares a
// scale: the tensor, a row, a group of columns, a block.
#pragma once

#include <cstdint>
#include <optional>

#include "base/dtype.h"
#include "base/tensor.h"
#include "codec/scheme.h"

namespace nibble {

// How a strategy cuts a rows x cols matrix into units. The last unit of a row or column may be smaller.
struct UnitGrid {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t unit_rows = 1;
  std::int64_t unit_cols = 1;

  std::int64_t grid_rows() const { return rows == 0 ? 0 : (rows + unit_rows - 1) / unit_rows; }
  std::int64_t grid_cols() const { return cols == 0 ? 0 : (cols + unit_cols - 1) / unit_cols; }
  std::int64_t count() const { return grid_rows() * grid_cols(); }
};

// `args` is validated. Token is one unit a row, attn_head one unit for the matrix (a head is a matrix of its
// own).
UnitGrid unit_grid(const QuantizationArgs& args, std::int64_t rows, std::int64_t cols);
// The shape of a weight's scale: [1], [rows, 1], [rows, groups] or [row blocks, column blocks].
Shape scale_shape(const QuantizationArgs& args, std::int64_t rows, std::int64_t cols);

// G = 448 * 6 / absmax, computed in `dtype` (F32, F16 or BF16); 1 when that is not finite. A range includes
// zero.
float global_scale_of(DType dtype, float min, float max);

struct ScaleZero {
  float scale;       // never 0; a power of two for MX; on the grid of scale_dtype
  float zero_point;  // an integer in the code range; 0 when symmetric
};

// The rule of one tensor with everything resolved, so that a unit costs a few operations.
class ScaleRule {
 public:
  // `dtype` (F32, F16 or BF16) is that of the observed tensor.
  ScaleRule(const QuantizationArgs& args, DType dtype, std::optional<float> global_scale = std::nullopt);

  ScaleZero operator()(float min, float max) const;
  // dtype of the scales as values: `dtype`, or F32 under a global scale.
  DType scale_dtype() const { return global_scale_ ? DType::kF32 : dtype_; }

 private:
  float symmetric_scale(float min, float max) const;
  float to_storage(float scale) const;

  DType dtype_;
  std::optional<DType> storage_;
  std::optional<float> global_scale_;
  float code_min_;
  float code_max_;
  float epsilon_;
  int mx_offset_;  // exponent of the largest code; 0: not MX
  bool symmetric_;
};

// The E8M0 exponent byte of a power of two (0 for anything smaller than 2^-127), and the power of an exponent
// byte rounded to `dtype`.
std::uint8_t e8m0_from_scale(float scale);

}  // namespace nibble
