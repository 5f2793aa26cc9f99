// SPDX-License-Identifier: Apache-2.0
// AVX-512 fp64 tiles: 14 x 16.
#if defined(__AVX512F__)
#include <immintrin.h>

#include "kernels/gemm/simd.h"
#include "kernels/gemm64/solve.h"
#include "kernels/gemm64/tile.h"

namespace nibble::kernels::gemm64 {
namespace {

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

struct V {
  using Scalar = double;
  using Vector = __m512d;
  using Mask = __mmask8;
  static constexpr int kLanes = 8;
  static constexpr bool kHasMasks = true;
  [[gnu::always_inline]] static Vector load(const double* at) { return _mm512_loadu_pd(at); }
  [[gnu::always_inline]] static void store(double* at, Vector v) { _mm512_storeu_pd(at, v); }
  [[gnu::always_inline]] static Vector broadcast(double x) { return _mm512_set1_pd(x); }
  [[gnu::always_inline]] static Vector multiply(Vector a, Vector b) { return _mm512_mul_pd(a, b); }
  [[gnu::always_inline]] static Vector fused_add(Vector a, Vector b, Vector c) {
    return _mm512_fmadd_pd(a, b, c);
  }

  [[gnu::always_inline]] static Mask first_lanes(std::int64_t count) {
    return static_cast<Mask>(count >= kLanes ? 0xffu : count > 0 ? (1u << count) - 1u : 0u);
  }
  [[gnu::always_inline]] static Vector load(Mask mask, const double* at) {
    return _mm512_maskz_loadu_pd(mask, at);
  }
  [[gnu::always_inline]] static void store(double* at, Mask mask, Vector v) {
    _mm512_mask_storeu_pd(at, mask, v);
  }
  [[gnu::always_inline]] static void transpose(Vector (&v)[kLanes]) { transpose_8x8(v); }
};

}  // namespace

constinit const Kernels kAvx512 =
    kernels_of<Kernels, V, 2>(std::make_integer_sequence<int, 14>{}, pack_rows_masked<V, kMaxRows>,
                              pack_columns_masked<V, kMaxRows>, solve_strip);

}  // namespace nibble::kernels::gemm64
#endif
