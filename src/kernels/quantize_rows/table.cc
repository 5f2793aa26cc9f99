// SPDX-License-Identifier: Apache-2.0
#include "kernels/quantize_rows/table.h"

#include "kernels/level_table.h"

namespace nibble::kernels {
namespace {

const quantize_rows::Kernels& kernels() {
  using quantize_rows::Kernels;
#if defined(__x86_64__)
  static constexpr LevelTable<Kernels> kTables{&quantize_rows::kPortable, &quantize_rows::kAvx2,
                                               &quantize_rows::kAvx512, nullptr};
#else
  static constexpr LevelTable<Kernels> kTables{&quantize_rows::kPortable, nullptr, nullptr, nullptr};
#endif
  return pick_level(kTables);
}

}  // namespace

void range_row(DType input, const void* row, std::int64_t count, std::int64_t run, float* min, float* max) {
  kernels().range(input, row, count, run, min, max);
}

void quantize_row(const RowQuantizer& quantizer, const void* row, std::int64_t count, std::int64_t run,
                  const float* scale, const float* zero_point, std::uint8_t* codes) {
  kernels().quantize(quantizer, row, count, run, scale, zero_point, codes);
}

void dequantize_row(CodeFormat format, DType product, const std::uint8_t* codes, std::int64_t count,
                    std::int64_t run, const float* scale, const float* zero_point, float* out) {
  kernels().dequantize(format, product, codes, count, run, scale, zero_point, out);
}

void fake_quantize_row(const RowQuantizer& quantizer, const float* row, std::int64_t count, std::int64_t run,
                       const float* scale, const float* zero_point, float* out) {
  kernels().fake_quantize(quantizer, row, count, run, scale, zero_point, out);
}

void error_row(const RowQuantizer& quantizer, const ErrorNorm& norm, const float* row, std::int64_t count,
               std::int64_t run, const float* scale, const float* zero_point, const float* importance,
               double* sums) {
  kernels().error(quantizer, norm, row, count, run, scale, zero_point, importance, sums);
}

void add_errors_of_row(DType input, const void* row, std::int64_t count, const float* stored,
                       ErrorSums& sums) {
  kernels().add_errors(input, row, count, stored, &sums);
}

void join_nibbles_row(const std::uint8_t* codes, std::int64_t count, std::uint8_t flipped,
                      std::uint8_t* out) {
  kernels().join_nibbles(codes, count, flipped, out);
}

void widen_row(DType input, const void* row, std::int64_t count, float* out) {
  kernels().widen(input, row, count, out);
}

void narrow_row(DType output, const float* row, std::int64_t count, void* out) {
  kernels().narrow(output, row, count, out);
}

}  // namespace nibble::kernels
