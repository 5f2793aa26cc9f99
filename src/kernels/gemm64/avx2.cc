// SPDX-License-Identifier: Apache-2.0
// AVX2 fp64 tiles: 6 x 8 is 12 sums, 2 halves of a strip and a broadcast in 16 registers.
#if defined(__AVX2__)
#include <immintrin.h>

#include "kernels/gemm64/solve.h"
#include "kernels/gemm64/tile.h"

namespace nibble::kernels::gemm64 {
namespace {

constexpr int kRows = 6;

void add_partial(const double* block, int rows, double* c, std::int64_t ldc, int cols, double alpha,
                 bool accumulate) {
  for (int r = 0; r < rows; ++r) {
    for (int j = 0; j < cols; ++j) {
      double* out = c + r * ldc + j;
      const double value = block[r * kStrip + j];
      *out = accumulate ? __builtin_fma(alpha, value, *out) : alpha * value;
    }
  }
}

template <int rows>
void tile(std::int64_t depth, const double* a, const double* b, std::int64_t, double* c, std::int64_t ldc,
          int cols, double alpha, bool accumulate) {
  __m256d sum[rows][2];
#pragma GCC unroll 6
  for (int r = 0; r < rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_pd();
  for (std::int64_t k = 0; k < depth; ++k, a += rows, b += kStrip) {
    const __m256d b0 = _mm256_loadu_pd(b), b1 = _mm256_loadu_pd(b + 4);
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
      const __m256d x = _mm256_broadcast_sd(a + r);
      sum[r][0] = _mm256_fmadd_pd(x, b0, sum[r][0]);
      sum[r][1] = _mm256_fmadd_pd(x, b1, sum[r][1]);
    }
  }
  if (cols < kStrip) {
    alignas(32) double block[rows * kStrip];
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
      _mm256_store_pd(block + r * kStrip, sum[r][0]);
      _mm256_store_pd(block + r * kStrip + 4, sum[r][1]);
    }
    return add_partial(block, rows, c, ldc, cols, alpha, accumulate);
  }
  const __m256d scale = _mm256_set1_pd(alpha);
#pragma GCC unroll 6
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      double* out = c + r * ldc + 4 * h;
      __m256d value = _mm256_mul_pd(scale, sum[r][h]);
      if (accumulate) value = _mm256_fmadd_pd(scale, sum[r][h], _mm256_loadu_pd(out));
      _mm256_storeu_pd(out, value);
    }
  }
}

void transpose_4x4(__m256d (&v)[4]) {
  const __m256d a = _mm256_unpacklo_pd(v[0], v[1]), b = _mm256_unpackhi_pd(v[0], v[1]);
  const __m256d c = _mm256_unpacklo_pd(v[2], v[3]), d = _mm256_unpackhi_pd(v[2], v[3]);
  v[0] = _mm256_permute2f128_pd(a, c, 0x20);
  v[1] = _mm256_permute2f128_pd(b, d, 0x20);
  v[2] = _mm256_permute2f128_pd(a, c, 0x31);
  v[3] = _mm256_permute2f128_pd(b, d, 0x31);
}

void pack_rows(const double* source, std::int64_t ld, int count, std::int64_t depth, double* out, int width) {
  // A store of 4 lanes may run over into rows that are written later; the last rows are written one by one.
  std::int64_t k = 0;
  for (; k + 8 <= depth; k += 4) {
    for (int first = 0; first < width; first += 4) {
      __m256d v[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        v[i] = first + i < count ? _mm256_loadu_pd(source + (first + i) * ld + k) : _mm256_setzero_pd();
      }
      transpose_4x4(v);
      double* to = out + k * width + first;
      if (first + 4 <= width) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) _mm256_storeu_pd(to + i * width, v[i]);
      } else {
        for (int i = 0; i < 4; ++i) {
          alignas(32) double row[4];
          _mm256_store_pd(row, v[i]);
          for (int j = first; j < width; ++j) to[i * width + j - first] = row[j - first];
        }
      }
    }
  }
  for (; k < depth; ++k) {
    for (int i = 0; i < count; ++i) out[k * width + i] = source[i * ld + k];
    for (int i = count; i < width; ++i) out[k * width + i] = 0.0;
  }
}

void pack_columns(const double* source, std::int64_t ld, int count, std::int64_t depth, double* out,
                  int width) {
  for (std::int64_t k = 0; k < depth; ++k) {
    if (count == kStrip && width == kStrip) {
      _mm256_storeu_pd(out + k * kStrip, _mm256_loadu_pd(source + k * ld));
      _mm256_storeu_pd(out + k * kStrip + 4, _mm256_loadu_pd(source + k * ld + 4));
      continue;
    }
    for (int i = 0; i < count; ++i) out[k * width + i] = source[k * ld + i];
    for (int i = count; i < width; ++i) out[k * width + i] = 0.0;
  }
}

}  // namespace

const Kernels kAvx2{
    kRows,        1,          {{tile<1>}, {tile<2>}, {tile<3>}, {tile<4>}, {tile<5>}, {tile<6>}}, pack_rows,
    pack_columns, solve_strip};

}  // namespace nibble::kernels::gemm64
#endif
