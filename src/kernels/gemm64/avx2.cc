// SPDX-License-Identifier: Apache-2.0
// AVX2 fp64 tiles: 6 x 8 is 12 sums, 2 halves of a strip and a broadcast in 16 registers.
#if defined(__AVX2__)
#include <immintrin.h>

#include "kernels/gemm/pack.h"
#include "kernels/gemm/simd.h"
#include "kernels/gemm64/solve.h"
#include "kernels/gemm64/tile.h"

namespace nibble::kernels::gemm64 {
namespace {

struct V {
  using Scalar = double;
  using Vector = __m256d;
  static constexpr int kLanes = 4;
  static constexpr bool kHasMasks = false;
  [[gnu::always_inline]] static Vector load(const double* at) { return _mm256_loadu_pd(at); }
  [[gnu::always_inline]] static void store(double* at, Vector v) { _mm256_storeu_pd(at, v); }
  [[gnu::always_inline]] static Vector broadcast(double x) { return _mm256_set1_pd(x); }
  [[gnu::always_inline]] static Vector multiply(Vector a, Vector b) { return _mm256_mul_pd(a, b); }
  [[gnu::always_inline]] static Vector fused_add(Vector a, Vector b, Vector c) {
    return _mm256_fmadd_pd(a, b, c);
  }
};

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
  pack_rows_plainly(source, ld, count, k, depth, out, width);
}

void pack_columns(const double* source, std::int64_t ld, int count, std::int64_t depth, double* out,
                  int width) {
  if (count != kStrip || width != kStrip) return pack_columns_plainly(source, ld, count, depth, out, width);
  for (std::int64_t k = 0; k < depth; ++k) {
    V::store(out + k * kStrip, V::load(source + k * ld));
    V::store(out + k * kStrip + 4, V::load(source + k * ld + 4));
  }
}

}  // namespace

constinit const Kernels kAvx2 =
    kernels_of<Kernels, V, 1>(std::make_integer_sequence<int, 6>{}, pack_rows, pack_columns, solve_strip);

}  // namespace nibble::kernels::gemm64
#endif
