// SPDX-License-Identifier: Apache-2.0
// The row kernels of one CPU level. Included by units with instruction-set flags: it declares types only.
#pragma once

#include "kernels/quantize_rows.h"

namespace nibble::kernels::quantize_rows {

struct Kernels {
  void (*range)(DType input, const void* row, std::int64_t count, std::int64_t run, float* min, float* max);
  void (*quantize)(const RowQuantizer& quantizer, const void* row, std::int64_t count, std::int64_t run,
                   const float* scale, const float* zero_point, std::uint8_t* codes);
  void (*dequantize)(CodeFormat format, DType product, const std::uint8_t* codes, std::int64_t count,
                     std::int64_t run, const float* scale, const float* zero_point, float* out);
  void (*fake_quantize)(const RowQuantizer& quantizer, const float* row, std::int64_t count, std::int64_t run,
                        const float* scale, const float* zero_point, float* out);
  void (*widen)(DType input, const void* row, std::int64_t count, float* out);
  void (*narrow)(DType output, const float* row, std::int64_t count, void* out);
};

extern const Kernels kPortable;
extern const Kernels kAvx2;
extern const Kernels kAvx512;

// The magnitudes of E2M1, twice: index 8 and up are negative.
inline constexpr float kE2M1Values[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                          -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

}  // namespace nibble::kernels::quantize_rows
