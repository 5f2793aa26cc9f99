// SPDX-License-Identifier: Apache-2.0
// What a solver must know of a quantization scheme: the numbers a code may be, how a scale is stored, and
// which weights share one scale. (Rules: compressed-tensors, QuantizationArgs and its arithmetic.)
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "base/error.h"
#include "base/tensor.h"
#include "codec/scheme.h"
#include "modify/solver/lanes/lanes.h"

namespace nibble {

// Scales and zero points of one weight, [unit rows, unit columns]. `scale` holds the stored values (E4M3
// values of NVFP4, powers of two of MX); `zero_point` is empty for symmetric schemes.
struct QuantParams {
  Matrix scale;
  Matrix zero_point;
  float global_scale = 0;  // 0: none; otherwise the effective scale is scale / global_scale
};

namespace solver {

CodeGrid code_grid(const QuantizationArgs& args);

// Rounding of dequantized products: the reference forms (code - zero) * scale in the scale's type, which is
// the model's (except with a global scale, where it is fp32).
ProductFormat product_format(DType model_dtype, bool has_global_scale);

// One product rounded so (lanes.h does the same to panels).
float round_product(float value, const ProductFormat& format);

// One weight rounded to the grid and back (as lanes.h does it for panels).
float round_weight(float weight, float scale, float zero, const CodeGrid& grid, const ProductFormat& product);

// Weights that share a scale are blocks of unit_rows x unit_cols; the last ones may be smaller.
struct Units {
  std::int64_t rows = 0;  // of the weight
  std::int64_t cols = 0;
  std::int64_t unit_rows = 1;
  std::int64_t unit_cols = 1;

  std::int64_t scale_rows() const { return (rows + unit_rows - 1) / unit_rows; }
  std::int64_t scale_cols() const { return (cols + unit_cols - 1) / unit_cols; }
  bool is_per_row() const { return unit_rows == 1; }
};

Result<Units> units_of(const QuantizationArgs& args, std::int64_t rows, std::int64_t cols);

// How a scale is stored. effective(s) is the fp32 factor that results from wanting s; never 0 and never
// infinite.
struct ScaleStorage {
  enum class Kind { kFloat, kE4M3, kE8M0 };
  Kind kind = Kind::kFloat;
  DType dtype = DType::kF32;  // of kFloat
  float global_scale = 0;     // of kE4M3 with a global scale

  float stored(float wanted) const;  // the value QuantParams::scale holds
  float effective_of_stored(float value) const { return global_scale == 0 ? value : value / global_scale; }
  float effective(float wanted) const { return effective_of_stored(stored(wanted)); }
};

ScaleStorage scale_storage(const QuantizationArgs& args, DType model_dtype, float global_scale);

// All of the above for one weight.
struct LayerGrid {
  Units units;
  CodeGrid codes;
  ProductFormat product;
  ScaleStorage storage;
  bool symmetric = true;
};

Result<LayerGrid> layer_grid(const QuantizationArgs& args, std::int64_t rows, std::int64_t cols,
                             DType model_dtype, float global_scale);

// Scale and zero point whose grid covers [low, high] (low <= 0 <= high), as they are stored.
struct UnitScale {
  float stored = 1;  // as QuantParams::scale holds it
  float scale = 1;   // effective
  float zero = 0;
};
UnitScale scale_for_range(const LayerGrid& grid, float low, float high);

}  // namespace solver
}  // namespace nibble
