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
  void (*error)(const RowQuantizer& quantizer, const ErrorNorm& norm, const float* row, std::int64_t count,
                std::int64_t run, const float* scale, const float* zero_point, const float* importance,
                double* sums);
  void (*add_errors)(DType input, const void* row, std::int64_t count, const float* stored, ErrorSums* sums);
  void (*join_nibbles)(const std::uint8_t* codes, std::int64_t count, std::uint8_t flipped,
                       std::uint8_t* out);
  void (*widen)(DType input, const void* row, std::int64_t count, float* out);
  void (*narrow)(DType output, const float* row, std::int64_t count, void* out);
};

extern const Kernels kPortable;
extern const Kernels kAvx2;
extern const Kernels kAvx512;

// The byte of codes[0] and, where there are two, codes[1].
static inline std::uint8_t joined_nibbles(const std::uint8_t* codes, std::int64_t count,
                                          std::uint8_t flipped) {
  const int low = (codes[0] ^ flipped) & 15;
  const int high = count > 1 ? (codes[1] ^ flipped) & 15 : 0;
  return static_cast<std::uint8_t>(low | (high << 4));
}

// The magnitudes of E2M1, twice: index 8 and up are negative.
inline constexpr float kE2M1Values[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                          -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

// |d|^p = 2^(p log2 |d|). log2 of the mantissa in [sqrt(1/2), sqrt(2)) is an odd series in (m - 1) / (m + 1),
// 2^f is Taylor's; p is split so that its product with the exponent is exact. About 2 ulp.
inline constexpr float kLog2Series[5] = {2.885390082f, 0.961796694f, 0.577078016f, 0.412198583f,
                                         0.320598898f};
inline constexpr float kExp2Series[8] = {1.0f,           0.693147181f,   0.240226507f,   0.0555041087f,
                                         0.00961812911f, 0.00133335581f, 1.54035304e-4f, 1.52527338e-5f};
inline constexpr int kChains = 16;
inline constexpr std::int64_t kStretch = 128;

}  // namespace nibble::kernels::quantize_rows
