// SPDX-License-Identifier: Apache-2.0
// Activations as a quantizing runtime sees them: dynamic parameters per token, tensor or group, or static
// ones from calibration (compressed-tensors compute_dynamic_scales_and_zp and forward.py).
//
// Token means every row, whatever the number of dimensions: the reference gives a 2-D input one scale for all
// tokens, which is listed as a quirk to avoid.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/tensor.h"
#include "base/thread_pool.h"
#include "codec/qparams.h"
#include "codec/scheme.h"
#include "kernels/quantize_rows.h"

namespace nibble {

// What calibration leaves: scale and zero point of a static scheme ([1], or [heads, 1, 1]), the global scale
// of a local one.
struct ActivationParams {
  Tensor scale;
  Tensor zero_point;  // I8; no elements when symmetric
  std::optional<float> global_scale;
};

class ActivationQuantizer {
 public:
  // `dtype` (F32, F16 or BF16) is the dtype whose arithmetic is followed; inputs are fp32 and are rounded to
  // it first. Fails when a static scheme has no scale, or a local one no global scale.
  static Result<ActivationQuantizer> create(const QuantizationArgs& args, DType dtype,
                                            const ActivationParams& params = {});

  // x[rows, cols], one row a token, replaced by its quantized and dequantized values.
  void apply(ThreadPool& pool, float* x, std::int64_t rows, std::int64_t cols) const;
  // The parameters apply() would use, row by row, `runs(cols)` a row (one for all rows when per tensor or
  // static).
  std::vector<ScaleZero> params(ThreadPool& pool, const float* x, std::int64_t rows, std::int64_t cols) const;
  std::int64_t runs(std::int64_t cols) const { return (cols + run(cols) - 1) / run(cols); }

 private:
  explicit ActivationQuantizer(const QuantizationArgs& args, DType dtype, std::optional<float> global_scale);
  std::int64_t run(std::int64_t cols) const;
  bool is_per_row() const { return is_dynamic_ && strategy_ != Strategy::kTensor; }
  void row_params(const float* row, std::int64_t cols, ScaleZero* out) const;
  std::vector<ScaleZero> shared_params(ThreadPool& pool, const float* x, std::int64_t rows,
                                       std::int64_t cols) const;
  void apply_row(float* row, std::int64_t cols, const ScaleZero* params, std::vector<float>& scratch) const;

  ScaleRule rule_;
  DType dtype_;
  Strategy strategy_;
  std::int64_t group_size_;
  bool is_dynamic_;
  bool has_zero_point_;
  float divisor_;  // the global scale, or 1
  kernels::RowQuantizer quantizer_;
  std::vector<ScaleZero> static_;
};

}  // namespace nibble
