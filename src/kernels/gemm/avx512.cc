// SPDX-License-Identifier: Apache-2.0
// AVX-512 tiles: 14 x 32 is 28 sums, 2 strips and a broadcast in 32 registers; 16 loads per 28 fused
// multiply-adds.
#if defined(__AVX512F__)
#include <immintrin.h>

#include "kernels/gemm/tile.h"

namespace nibble::kernels::gemm {
namespace {

// Whole vectors without a mask: a masked store that misses the L1 cache holds up the ones after it.
[[gnu::always_inline]] inline void put(float* out, int left, __m512 scale, __m512 sum, bool accumulate) {
  __m512 value = _mm512_mul_ps(scale, sum);
  if (left >= kStrip) {
    if (accumulate) value = _mm512_fmadd_ps(scale, sum, _mm512_loadu_ps(out));
    _mm512_storeu_ps(out, value);
  } else if (left > 0) {
    const auto mask = static_cast<__mmask16>((1u << left) - 1u);
    if (accumulate) value = _mm512_fmadd_ps(scale, sum, _mm512_maskz_loadu_ps(mask, out));
    _mm512_mask_storeu_ps(out, mask, value);
  }
}

template <int rows, int strips>
void tile(std::int64_t depth, const float* a, const float* b, std::int64_t strip_stride, float* c,
          std::int64_t ldc, int cols, float alpha, bool accumulate) {
  __m512 sum[rows][strips];
#pragma GCC unroll 14
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int s = 0; s < strips; ++s) sum[r][s] = _mm512_setzero_ps();
  }
  for (std::int64_t k = 0; k < depth; ++k, a += rows, b += kStrip) {
    __m512 column[strips];
#pragma GCC unroll 2
    for (int s = 0; s < strips; ++s) column[s] = _mm512_loadu_ps(b + s * strip_stride);
#pragma GCC unroll 14
    for (int r = 0; r < rows; ++r) {
      const __m512 x = _mm512_set1_ps(a[r]);
#pragma GCC unroll 2
      for (int s = 0; s < strips; ++s) sum[r][s] = _mm512_fmadd_ps(x, column[s], sum[r][s]);
    }
  }
  const __m512 scale = _mm512_set1_ps(alpha);
#pragma GCC unroll 14
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int s = 0; s < strips; ++s)
      put(c + r * ldc + s * kStrip, cols - s * kStrip, scale, sum[r][s], accumulate);
  }
}

// v[i] holds row i; afterwards v[k] holds column k.
void transpose_16x16(__m512 (&v)[16]) {
  __m512 t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]);
  }
  // u[4 q + c], 128-bit lane l: column 4 l + c of rows 4 q .. 4 q + 3.
  __m512 u[16];
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {
    u[4 * q] = _mm512_shuffle_ps(t[4 * q], t[4 * q + 2], 0x44);
    u[4 * q + 1] = _mm512_shuffle_ps(t[4 * q], t[4 * q + 2], 0xee);
    u[4 * q + 2] = _mm512_shuffle_ps(t[4 * q + 1], t[4 * q + 3], 0x44);
    u[4 * q + 3] = _mm512_shuffle_ps(t[4 * q + 1], t[4 * q + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512 even_lo = _mm512_shuffle_f32x4(u[c], u[4 + c], 0x88);       // lanes 0, 2 of q = 0, 1
    const __m512 odd_lo = _mm512_shuffle_f32x4(u[c], u[4 + c], 0xdd);        // lanes 1, 3 of q = 0, 1
    const __m512 even_hi = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0x88);  // of q = 2, 3
    const __m512 odd_hi = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0xdd);
    v[c] = _mm512_shuffle_f32x4(even_lo, even_hi, 0x88);
    v[4 + c] = _mm512_shuffle_f32x4(odd_lo, odd_hi, 0x88);
    v[8 + c] = _mm512_shuffle_f32x4(even_lo, even_hi, 0xdd);
    v[12 + c] = _mm512_shuffle_f32x4(odd_lo, odd_hi, 0xdd);
  }
}

void pack_rows(const float* source, std::int64_t ld, int count, std::int64_t depth, float* out, int width) {
  const auto lanes = static_cast<__mmask16>((1u << width) - 1u);
  for (std::int64_t k = 0; k < depth; k += 16) {
    const std::int64_t left = depth - k;
    const auto mask = static_cast<__mmask16>(left >= 16 ? 0xffffu : (1u << left) - 1u);
    __m512 v[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      v[i] = i < count ? _mm512_maskz_loadu_ps(mask, source + i * ld + k) : _mm512_setzero_ps();
    }
    transpose_16x16(v);
    float* to = out + k * width;
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      if (i < left) _mm512_mask_storeu_ps(to + i * width, lanes, v[i]);
    }
  }
}

void pack_columns(const float* source, std::int64_t ld, int count, std::int64_t depth, float* out,
                  int width) {
  const auto filled = static_cast<__mmask16>((1u << count) - 1u);
  const auto lanes = static_cast<__mmask16>((1u << width) - 1u);
  for (std::int64_t k = 0; k < depth; ++k) {
    _mm512_mask_storeu_ps(out + k * width, lanes, _mm512_maskz_loadu_ps(filled, source + k * ld));
  }
}

}  // namespace

const Kernels kAvx512{14,
                      2,
                      {{tile<1, 1>, tile<1, 2>},
                       {tile<2, 1>, tile<2, 2>},
                       {tile<3, 1>, tile<3, 2>},
                       {tile<4, 1>, tile<4, 2>},
                       {tile<5, 1>, tile<5, 2>},
                       {tile<6, 1>, tile<6, 2>},
                       {tile<7, 1>, tile<7, 2>},
                       {tile<8, 1>, tile<8, 2>},
                       {tile<9, 1>, tile<9, 2>},
                       {tile<10, 1>, tile<10, 2>},
                       {tile<11, 1>, tile<11, 2>},
                       {tile<12, 1>, tile<12, 2>},
                       {tile<13, 1>, tile<13, 2>},
                       {tile<14, 1>, tile<14, 2>}},
                      pack_rows,
                      pack_columns};

}  // namespace nibble::kernels::gemm
#endif
