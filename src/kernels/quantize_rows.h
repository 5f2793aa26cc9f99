// SPDX-License-Identifier: Apache-2.0
// Rows of weights or activations to codes and back, with the reference's arithmetic: quotient, zero-point
// addition and product are each rounded to a storage dtype (compressed-tensors forward.py on CPU).
// A row is cut into runs that share a scale: `run` values each, the last may be shorter. Every level gives
// the same bits.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace nibble::kernels {

enum class CodeFormat : std::uint8_t {
  kInteger,  // a code is an int8
  kE4M3,     // a code is a float8_e4m3fn
  kE2M1,     // a code is sign * 8 + index into {0, .5, 1, 1.5, 2, 3, 4, 6}; a zero keeps no sign
};

struct RowQuantizer {
  DType input = DType::kF32;     // of the row: F32, F16 or BF16
  DType quotient = DType::kF32;  // x / scale, and that plus the zero point, are rounded to it
  DType product = DType::kF32;   // code - zero point, and that times the scale, are rounded to it
  CodeFormat format = CodeFormat::kInteger;
  float code_min = -128;
  float code_max = 127;
};

// min[i] and max[i] of run i; both NaN when the run holds a NaN.
void range_row(DType input, const void* row, std::int64_t count, std::int64_t run, float* min, float* max);

// codes[k] from row[k]: clamp(x / scale + zero_point), rounded half to even. `zero_point` may be null, which
// counts as +0 (so that -0 becomes +0). Scales are not 0. A NaN becomes the smallest integer, a NaN of E4M3,
// a zero of E2M1.
void quantize_row(const RowQuantizer& quantizer, const void* row, std::int64_t count, std::int64_t run,
                  const float* scale, const float* zero_point, std::uint8_t* codes);

// out[k] = (code - zero_point) * scale, each operation rounded to `product` (F32, F16 or BF16).
void dequantize_row(CodeFormat format, DType product, const std::uint8_t* codes, std::int64_t count,
                    std::int64_t run, const float* scale, const float* zero_point, float* out);

// Both steps without the detour over codes: a negative value that rounds to zero becomes -0, as in the
// reference. quantizer.input is F32; `out` may be `row`.
void fake_quantize_row(const RowQuantizer& quantizer, const float* row, std::int64_t count, std::int64_t run,
                       const float* scale, const float* zero_point, float* out);

// What a search for a range minimises.
struct ErrorNorm {
  float exponent = 2;  // positive
  DType rounding =
      DType::kF32;  // the difference and its power are rounded to it: F32 or the quantizer's product
};

// sums[u] += sum over run u of importance[k] * |q(row[k]) - row[k]|^exponent, with q as fake_quantize_row.
// `importance` may be null; quotient and product have one dtype. Sums are fp32 over stretches of 128 values
// in sixteen interleaved chains, fp64 beyond, so they do not depend on the level.
void error_row(const RowQuantizer& quantizer, const ErrorNorm& norm, const float* row, std::int64_t count,
               std::int64_t run, const float* scale, const float* zero_point, const float* importance,
               double* sums);

struct ErrorSums {
  double signal = 0;  // of squares of the original
  double noise = 0;   // of squares of the difference
  double max_error = 0;
};

// Adds what `stored` differs from the row by: 16 interleaved chains, fp32 over 128 values, fp64 over the row.
void add_errors_of_row(DType input, const void* row, std::int64_t count, const float* stored,
                       ErrorSums& sums);

// Two codes a byte, the first in the low half; a code is its low four bits, of which those set in `flipped`
// change. The last half of an odd count is 0.
void join_nibbles_row(const std::uint8_t* codes, std::int64_t count, std::uint8_t flipped, std::uint8_t* out);

// To and from fp32; narrowing rounds half to even.
void widen_row(DType input, const void* row, std::int64_t count, float* out);
void narrow_row(DType output, const float* row, std::int64_t count, void* out);

}  // namespace nibble::kernels
