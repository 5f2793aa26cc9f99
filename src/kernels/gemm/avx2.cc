// SPDX-License-Identifier: Apache-2.0
// AVX2 tiles: 6 x 16 is 12 sums, 2 halves of a strip and a broadcast in 16 registers.
#if defined(__AVX2__)
#include <immintrin.h>

#include "kernels/gemm/pack.h"
#include "kernels/gemm/simd.h"
#include "kernels/gemm/tile.h"

namespace nibble::kernels::gemm {
namespace {

struct V {
  using Scalar = float;
  using Vector = __m256;
  static constexpr int kLanes = 8;
  static constexpr bool kHasMasks = false;
  [[gnu::always_inline]] static Vector load(const float* at) { return _mm256_loadu_ps(at); }
  [[gnu::always_inline]] static void store(float* at, Vector v) { _mm256_storeu_ps(at, v); }
  [[gnu::always_inline]] static Vector broadcast(float x) { return _mm256_set1_ps(x); }
  [[gnu::always_inline]] static Vector multiply(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
  [[gnu::always_inline]] static Vector fused_add(Vector a, Vector b, Vector c) {
    return _mm256_fmadd_ps(a, b, c);
  }
};

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
  pack_rows_plainly(source, ld, count, k, depth, out, width);
}

void pack_columns(const float* source, std::int64_t ld, int count, std::int64_t depth, float* out,
                  int width) {
  if (count != kStrip || width != kStrip) return pack_columns_plainly(source, ld, count, depth, out, width);
  for (std::int64_t k = 0; k < depth; ++k) {
    V::store(out + k * kStrip, V::load(source + k * ld));
    V::store(out + k * kStrip + 8, V::load(source + k * ld + 8));
  }
}

}  // namespace

constinit const Kernels kAvx2 =
    kernels_of<Kernels, V, 1>(std::make_integer_sequence<int, 6>{}, pack_rows, pack_columns);

}  // namespace nibble::kernels::gemm
#endif
