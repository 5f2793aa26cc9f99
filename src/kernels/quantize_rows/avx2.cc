// SPDX-License-Identifier: Apache-2.0
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels/quantize_rows/table.h"

namespace nibble::kernels::quantize_rows {
namespace {

constexpr int kWidth = 8;

using Integers = __m256i;

inline __m256 load_half(const void* at) {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(at)));
}
using Halves = std::uint16_t __attribute__((vector_size(16)));
inline Halves narrow_half(__m256 v) {
  return reinterpret_cast<Halves>(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline __m256 round_half(__m256 v) {
  return _mm256_cvtph_ps(reinterpret_cast<__m128i>(narrow_half(v)));
}
// table[index]; the table has a value for each lane.
inline __m256 look_up(const float* table, __m256i index) {
  return _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), index);
}

}  // namespace
}  // namespace nibble::kernels::quantize_rows

#include "kernels/quantize_rows/simd.h"
#include "kernels/quantize_rows/simd_error.h"

namespace nibble::kernels::quantize_rows {

const Kernels kAvx2{range, quantize, dequantize, fake_quantize, error, widen, narrow};

}  // namespace nibble::kernels::quantize_rows
#endif
