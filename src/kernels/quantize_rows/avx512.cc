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
inline __m512i load_shorts(const void* at) {
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(at)));
}
inline __m512i load_signed_bytes(const void* at) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(at)));
}
inline void store_low_bytes(__m512i v, void* out) {
  _mm_storeu_si128(static_cast<__m128i*>(out), _mm512_cvtepi32_epi8(v));
}
inline void store_low_bytes_of_shorts(__m512i v, void* out) {
  _mm256_storeu_si256(static_cast<__m256i*>(out), _mm512_cvtepi16_epi8(v));
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

const Kernels kAvx512{range,        quantize, dequantize, fake_quantize, error, add_errors_of_row,
                      join_nibbles, widen,    narrow};

}  // namespace nibble::kernels::quantize_rows
#endif
