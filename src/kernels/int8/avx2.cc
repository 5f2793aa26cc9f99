// SPDX-License-Identifier: Apache-2.0
// AVX2 integer tiles. 8-bit codes go through vpmaddwd on 16-bit halves: vpmaddubsw would saturate. For 4-bit
// codes it cannot (15 * 128 * 2 < 2^15).
#if defined(__AVX2__)
#include <immintrin.h>

#include "kernels/int8/table.h"

namespace nibble::kernels::int8 {
namespace {

constexpr int kRows = 4;

__m256i load_words(const std::uint32_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

template <int rows>
[[gnu::always_inline]] inline void finish(const Tile& tile, const __m256i (&sum)[rows][2]) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    const __m256 scale = _mm256_loadu_ps(tile.scales + 8 * h);
    const __m256i zero = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tile.zeros + 8 * h));
    const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(tile.cols - 8 * h), lane);
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      const __m256i dot =
          _mm256_sub_epi32(sum[r][h], _mm256_mullo_epi32(zero, _mm256_set1_epi32(tile.x_sum[r])));
      __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(dot), scale);
      float* y = tile.y + r * tile.ldy + 8 * h;
      if (tile.accumulate) value = _mm256_add_ps(_mm256_maskload_ps(y, mask), value);
      _mm256_maskstore_ps(y, mask, value);
    }
  }
}

template <int rows>
void run8(const Tile& tile) {
  __m256i sum[rows][2];
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
  const __m256i low = _mm256_set1_epi32(0x00ff00ff);
  const std::int32_t* x = tile.x;
  const std::uint32_t* words = tile.words;
  for (std::int64_t q = 0; q < tile.quads; ++q, x += 2 * rows, words += kLanes) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m256i w = load_words(words + 8 * h);
      const __m256i even = _mm256_and_si256(w, low), odd = _mm256_srli_epi16(w, 8);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        const __m256i a = _mm256_madd_epi16(even, _mm256_set1_epi32(x[2 * r]));
        const __m256i b = _mm256_madd_epi16(odd, _mm256_set1_epi32(x[2 * r + 1]));
        sum[r][h] = _mm256_add_epi32(sum[r][h], _mm256_add_epi32(a, b));
      }
    }
  }
  finish<rows>(tile, sum);
}

template <int rows>
void run4(const Tile& tile) {
  __m256i sum[rows][2];
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
  const __m256i low = _mm256_set1_epi8(15), one = _mm256_set1_epi16(1);
  const std::int32_t* x = tile.x;
  const std::uint32_t* words = tile.words;
  for (std::int64_t q = 0; q < tile.quads; q += 2, x += 2 * rows, words += kLanes) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m256i w = load_words(words + 8 * h);
      const __m256i even = _mm256_and_si256(w, low), odd = _mm256_and_si256(_mm256_srli_epi16(w, 4), low);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        // Two products of up to 2 * 15 * 128 still fit 16 bits.
        const __m256i a = _mm256_maddubs_epi16(even, _mm256_set1_epi32(x[r]));
        const __m256i b = _mm256_maddubs_epi16(odd, _mm256_set1_epi32(x[rows + r]));
        sum[r][h] = _mm256_add_epi32(sum[r][h], _mm256_madd_epi16(_mm256_add_epi16(a, b), one));
      }
    }
  }
  finish<rows>(tile, sum);
}

}  // namespace

const Kernels kAvx2{kRows,
                    1,
                    {true, {{run8<1>}, {run8<2>}, {run8<3>}, {run8<4>}}},
                    {false, {{run4<1>}, {run4<2>}, {run4<3>}, {run4<4>}}}};

}  // namespace nibble::kernels::int8
#endif
