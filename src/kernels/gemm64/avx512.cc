// SPDX-License-Identifier: Apache-2.0
// AVX-512 fp64 tiles: 14 x 16.
#if defined(__AVX512F__)
#include <immintrin.h>

#include "kernels/gemm64/solve.h"
#include "kernels/gemm64/tile.h"

namespace nibble::kernels::gemm64 {
namespace {

[[gnu::always_inline]] inline __mmask8 first_lanes(std::int64_t count) {
  return static_cast<__mmask8>(count >= 8 ? 0xffu : count > 0 ? (1u << count) - 1u : 0u);
}

template <int rows, int strips>
void tile(std::int64_t depth, const double* a, const double* b, std::int64_t strip_stride, double* c,
          std::int64_t ldc, int cols, double alpha, bool accumulate) {
  __m512d sum[rows][strips];
#pragma GCC unroll 14
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int s = 0; s < strips; ++s) sum[r][s] = _mm512_setzero_pd();
  }
  for (std::int64_t k = 0; k < depth; ++k, a += rows, b += kStrip) {
    __m512d column[strips];
#pragma GCC unroll 2
    for (int s = 0; s < strips; ++s) column[s] = _mm512_loadu_pd(b + s * strip_stride);
#pragma GCC unroll 14
    for (int r = 0; r < rows; ++r) {
      const __m512d x = _mm512_set1_pd(a[r]);
#pragma GCC unroll 2
      for (int s = 0; s < strips; ++s) sum[r][s] = _mm512_fmadd_pd(x, column[s], sum[r][s]);
    }
  }
  const __m512d scale = _mm512_set1_pd(alpha);
#pragma GCC unroll 2
  for (int s = 0; s < strips; ++s) {
    const __mmask8 mask = first_lanes(cols - s * kStrip);
#pragma GCC unroll 14
    for (int r = 0; r < rows; ++r) {
      double* out = c + r * ldc + s * kStrip;
      __m512d value = _mm512_mul_pd(scale, sum[r][s]);
      if (accumulate) value = _mm512_fmadd_pd(scale, sum[r][s], _mm512_maskz_loadu_pd(mask, out));
      _mm512_mask_storeu_pd(out, mask, value);
    }
  }
}

// v[i] holds row i; afterwards v[k] holds column k.
void transpose_8x8(__m512d (&v)[8]) {
  __m512d t[8];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm512_unpacklo_pd(v[2 * i], v[2 * i + 1]);      // lane l: column 2 l of rows 2 i, 2 i + 1
    t[2 * i + 1] = _mm512_unpackhi_pd(v[2 * i], v[2 * i + 1]);  // column 2 l + 1
  }
#pragma GCC unroll 2
  for (int c = 0; c < 2; ++c) {
    const __m512d even_lo = _mm512_shuffle_f64x2(t[c], t[2 + c], 0x88),
                  odd_lo = _mm512_shuffle_f64x2(t[c], t[2 + c], 0xdd);
    const __m512d even_hi = _mm512_shuffle_f64x2(t[4 + c], t[6 + c], 0x88),
                  odd_hi = _mm512_shuffle_f64x2(t[4 + c], t[6 + c], 0xdd);
    v[c] = _mm512_shuffle_f64x2(even_lo, even_hi, 0x88);
    v[2 + c] = _mm512_shuffle_f64x2(odd_lo, odd_hi, 0x88);
    v[4 + c] = _mm512_shuffle_f64x2(even_lo, even_hi, 0xdd);
    v[6 + c] = _mm512_shuffle_f64x2(odd_lo, odd_hi, 0xdd);
  }
}

void pack_rows(const double* source, std::int64_t ld, int count, std::int64_t depth, double* out, int width) {
  for (int first = 0; first < width; first += 8) {
    const __mmask8 lanes = first_lanes(width - first);
    for (std::int64_t k = 0; k < depth; k += 8) {
      const __mmask8 mask = first_lanes(depth - k);
      __m512d v[8];
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        v[i] = first + i < count ? _mm512_maskz_loadu_pd(mask, source + (first + i) * ld + k)
                                 : _mm512_setzero_pd();
      }
      transpose_8x8(v);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        if (i < depth - k) _mm512_mask_storeu_pd(out + (k + i) * width + first, lanes, v[i]);
      }
    }
  }
}

void pack_columns(const double* source, std::int64_t ld, int count, std::int64_t depth, double* out,
                  int width) {
  for (int first = 0; first < width; first += 8) {
    const __mmask8 filled = first_lanes(count - first), lanes = first_lanes(width - first);
    for (std::int64_t k = 0; k < depth; ++k) {
      _mm512_mask_storeu_pd(out + k * width + first, lanes,
                            _mm512_maskz_loadu_pd(filled, source + k * ld + first));
    }
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
                      pack_columns,
                      solve_strip};

}  // namespace nibble::kernels::gemm64
#endif
