// SPDX-License-Identifier: Apache-2.0
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels/quantize_rows/table.h"

namespace nibble::kernels::quantize_rows {
namespace {

constexpr int kWidth = 16;

using Integers = __m512i;

inline __m512 load_half(const void* at) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(at)));
}
using Halves = std::uint16_t __attribute__((vector_size(32)));
inline Halves narrow_half(__m512 v) {
  return reinterpret_cast<Halves>(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline __m512 round_half(__m512 v) {
  return _mm512_cvtph_ps(reinterpret_cast<__m256i>(narrow_half(v)));
}
// table[index]; the table has a value for each lane.
inline __m512 look_up(const float* table, __m512i index) {
  return _mm512_permutexvar_ps(index, _mm512_loadu_ps(table));
}

}  // namespace
}  // namespace nibble::kernels::quantize_rows

#include "kernels/quantize_rows/simd.h"
#include "kernels/quantize_rows/simd_error.h"

namespace nibble::kernels::quantize_rows {

const Kernels kAvx512{range, quantize, dequantize, fake_quantize, error, widen, narrow};

}  // namespace nibble::kernels::quantize_rows
#endif
