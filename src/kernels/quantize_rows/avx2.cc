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
inline __m256i load_shorts(const void* at) {
  return _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(at)));
}
inline __m256i load_signed_bytes(const void* at) {
  return _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(at)));
}
inline void store_low_bytes(__m256i v, void* out) {
  const __m128i first_bytes = _mm_set_epi8(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 12, 8, 4, 0);
  const __m128i low = _mm_shuffle_epi8(_mm256_castsi256_si128(v), first_bytes);
  const __m128i high = _mm_shuffle_epi8(_mm256_extracti128_si256(v, 1), first_bytes);
  _mm_storel_epi64(static_cast<__m128i*>(out), _mm_unpacklo_epi32(low, high));
}
// The high bytes are 0.
inline void store_low_bytes_of_shorts(__m256i v, void* out) {
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi16(v, v), 0x08);
  _mm_storeu_si128(static_cast<__m128i*>(out), _mm256_castsi256_si128(packed));
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

const Kernels kAvx2{range,        quantize, dequantize, fake_quantize, error, add_errors_of_row,
                    join_nibbles, widen,    narrow};

}  // namespace nibble::kernels::quantize_rows
#endif
