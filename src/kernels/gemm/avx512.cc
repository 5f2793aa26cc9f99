// SPDX-License-Identifier: Apache-2.0
// AVX-512 tiles: 14 x 32 is 28 sums, 2 strips and a broadcast in 32 registers; 16 loads per 28 fused
// multiply-adds.
#if defined(__AVX512F__)
#include <immintrin.h>

#include "kernels/gemm/simd.h"
#include "kernels/gemm/tile.h"

namespace nibble::kernels::gemm {
namespace {

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

struct V {
  using Scalar = float;
  using Vector = __m512;
  using Mask = __mmask16;
  static constexpr int kLanes = 16;
  static constexpr bool kHasMasks = true;
  [[gnu::always_inline]] static Vector load(const float* at) { return _mm512_loadu_ps(at); }
  [[gnu::always_inline]] static void store(float* at, Vector v) { _mm512_storeu_ps(at, v); }
  [[gnu::always_inline]] static Vector broadcast(float x) { return _mm512_set1_ps(x); }
  [[gnu::always_inline]] static Vector multiply(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
  [[gnu::always_inline]] static Vector fused_add(Vector a, Vector b, Vector c) {
    return _mm512_fmadd_ps(a, b, c);
  }

  [[gnu::always_inline]] static Mask first_lanes(std::int64_t count) {
    return static_cast<Mask>(count >= kLanes ? 0xffffu : count > 0 ? (1u << count) - 1u : 0u);
  }
  [[gnu::always_inline]] static Vector load(Mask mask, const float* at) {
    return _mm512_maskz_loadu_ps(mask, at);
  }
  [[gnu::always_inline]] static void store(float* at, Mask mask, Vector v) {
    _mm512_mask_storeu_ps(at, mask, v);
  }
  [[gnu::always_inline]] static void transpose(Vector (&v)[kLanes]) { transpose_16x16(v); }
};

}  // namespace

constinit const Kernels kAvx512 = kernels_of<Kernels, V, 2>(
    std::make_integer_sequence<int, 14>{}, pack_rows_masked<V, kStrip>, pack_columns_masked<V, kStrip>);

}  // namespace nibble::kernels::gemm
#endif
