// SPDX-License-Identifier: Apache-2.0
// AVX2 tiles: 6 x 16 is 12 sums, 2 halves of a strip and a broadcast in 16 registers.
#if defined(__AVX2__)
#include <immintrin.h>

#include "kernels/gemm/tile.h"

namespace nibble::kernels::gemm {
namespace {

constexpr int kRows = 6;

void add_partial(const float* block, int rows, float* c, std::int64_t ldc, int cols, float alpha,
                 bool accumulate) {
  for (int r = 0; r < rows; ++r) {
    for (int j = 0; j < cols; ++j) {
      float* out = c + r * ldc + j;
      const float value = block[r * kStrip + j];
      *out = accumulate ? __builtin_fmaf(alpha, value, *out) : alpha * value;
    }
  }
}

template <int rows>
void tile(std::int64_t depth, const float* a, const float* b, std::int64_t, float* c, std::int64_t ldc,
          int cols, float alpha, bool accumulate) {
  __m256 sum[rows][2];
#pragma GCC unroll 6
  for (int r = 0; r < rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_ps();
  for (std::int64_t k = 0; k < depth; ++k, a += rows, b += kStrip) {
    const __m256 b0 = _mm256_loadu_ps(b);
    const __m256 b1 = _mm256_loadu_ps(b + 8);
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
      const __m256 x = _mm256_broadcast_ss(a + r);
      sum[r][0] = _mm256_fmadd_ps(x, b0, sum[r][0]);
      sum[r][1] = _mm256_fmadd_ps(x, b1, sum[r][1]);
    }
  }
  if (cols < kStrip) {
    alignas(32) float block[rows * kStrip];
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
      _mm256_store_ps(block + r * kStrip, sum[r][0]);
      _mm256_store_ps(block + r * kStrip + 8, sum[r][1]);
    }
    return add_partial(block, rows, c, ldc, cols, alpha, accumulate);
  }
  const __m256 scale = _mm256_set1_ps(alpha);
#pragma GCC unroll 6
  for (int r = 0; r < rows; ++r) {
    float* out = c + r * ldc;
    __m256 lo = _mm256_mul_ps(scale, sum[r][0]);
    __m256 hi = _mm256_mul_ps(scale, sum[r][1]);
    if (accumulate) {
      lo = _mm256_fmadd_ps(scale, sum[r][0], _mm256_loadu_ps(out));
      hi = _mm256_fmadd_ps(scale, sum[r][1], _mm256_loadu_ps(out + 8));
    }
    _mm256_storeu_ps(out, lo);
    _mm256_storeu_ps(out + 8, hi);
  }
}

void transpose_8x8(__m256 (&v)[8]) {
  __m256 t[8];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]);
  }
  __m256 u[8];
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    u[4 * h] = _mm256_shuffle_ps(t[4 * h], t[4 * h + 2], 0x44);
    u[4 * h + 1] = _mm256_shuffle_ps(t[4 * h], t[4 * h + 2], 0xee);
    u[4 * h + 2] = _mm256_shuffle_ps(t[4 * h + 1], t[4 * h + 3], 0x44);
    u[4 * h + 3] = _mm256_shuffle_ps(t[4 * h + 1], t[4 * h + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x20);
    v[4 + i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x31);
  }
}

void pack_rows(const float* source, std::int64_t ld, int count, std::int64_t depth, float* out, int width) {
  // A store of 8 lanes may run over into rows that are written later; the last 8 rows are written one by one.
  std::int64_t k = 0;
  for (; k + 16 <= depth; k += 8) {
    for (int first = 0; first < width; first += 8) {
      __m256 v[8];
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        v[i] = first + i < count ? _mm256_loadu_ps(source + (first + i) * ld + k) : _mm256_setzero_ps();
      }
      transpose_8x8(v);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) _mm256_storeu_ps(out + (k + i) * width + first, v[i]);
    }
  }
  for (; k < depth; ++k) {
    for (int i = 0; i < count; ++i) out[k * width + i] = source[i * ld + k];
    for (int i = count; i < width; ++i) out[k * width + i] = 0.0f;
  }
}

void pack_columns(const float* source, std::int64_t ld, int count, std::int64_t depth, float* out,
                  int width) {
  if (count == kStrip && width == kStrip) {
    for (std::int64_t k = 0; k < depth; ++k) {
      _mm256_storeu_ps(out + k * kStrip, _mm256_loadu_ps(source + k * ld));
      _mm256_storeu_ps(out + k * kStrip + 8, _mm256_loadu_ps(source + k * ld + 8));
    }
    return;
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    for (int i = 0; i < count; ++i) out[k * width + i] = source[k * ld + i];
    for (int i = count; i < width; ++i) out[k * width + i] = 0.0f;
  }
}

}  // namespace

const Kernels kAvx2{
    kRows, 1, {{tile<1>}, {tile<2>}, {tile<3>}, {tile<4>}, {tile<5>}, {tile<6>}}, pack_rows, pack_columns};

}  // namespace nibble::kernels::gemm
#endif
