// SPDX-License-Identifier: Apache-2.0
// The vector vocabulary for AVX-512 units: F is 16 floats, I 16 int32, M a mask of 16, D 16 doubles. avx2.h
// and portable.h hold the same words with the same lane order, so an algorithm written once gives equal sums
// at every level. Everything lives in an unnamed namespace: each unit gets its own copy and nothing is shared
// by the linker.
#pragma once

#include <immintrin.h>

#include <cstdint>

#define NIBBLE_SIMD [[gnu::always_inline]] inline

namespace nibble::kernels {
namespace {

struct F {
  __m512 v;
};
struct I {
  __m512i v;
};
struct M {
  __mmask16 v;
};
struct D {
  __m512d lo, hi;
};

NIBBLE_SIMD __mmask16 first_lanes(std::int64_t count) {
  return static_cast<__mmask16>((1u << count) - 1u);
}

NIBBLE_SIMD F broadcast(float x) {
  return {_mm512_set1_ps(x)};
}
NIBBLE_SIMD F load(const float* p) {
  return {_mm512_loadu_ps(p)};
}
NIBBLE_SIMD void store(float* p, F x) {
  _mm512_storeu_ps(p, x.v);
}
// The first `count` (0 to 16) lanes; the others are `fill`.
NIBBLE_SIMD F load(const float* p, std::int64_t count, F fill) {
  return {_mm512_mask_loadu_ps(fill.v, first_lanes(count), p)};
}
NIBBLE_SIMD void store(float* p, std::int64_t count, F x) {
  _mm512_mask_storeu_ps(p, first_lanes(count), x.v);
}

NIBBLE_SIMD F operator+(F a, F b) {
  return {_mm512_add_ps(a.v, b.v)};
}
NIBBLE_SIMD F operator-(F a, F b) {
  return {_mm512_sub_ps(a.v, b.v)};
}
NIBBLE_SIMD F operator*(F a, F b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
NIBBLE_SIMD F operator/(F a, F b) {
  return {_mm512_div_ps(a.v, b.v)};
}
NIBBLE_SIMD F fma(F a, F b, F c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
// The second argument if one of them is NaN.
NIBBLE_SIMD F max(F a, F b) {
  return {_mm512_max_ps(a.v, b.v)};
}
NIBBLE_SIMD F min(F a, F b) {
  return {_mm512_min_ps(a.v, b.v)};
}
NIBBLE_SIMD F round_even(F a) {
  return {_mm512_roundscale_ps(a.v, 8)};
}
// x * 2^n for whole n in [-252, 254]; one rounding.
NIBBLE_SIMD F scale_by_power(F x, F n) {
  return {_mm512_scalef_ps(x.v, n.v)};
}
NIBBLE_SIMD float reduce_max(F a) {
  return _mm512_reduce_max_ps(a.v);
}

NIBBLE_SIMD M operator<(F a, F b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)};
}
NIBBLE_SIMD F select(M m, F yes, F no) {
  return {_mm512_mask_blend_ps(m.v, no.v, yes.v)};
}
NIBBLE_SIMD I select(M m, I yes, I no) {
  return {_mm512_mask_blend_epi32(m.v, no.v, yes.v)};
}

NIBBLE_SIMD I broadcast(std::int32_t x) {
  return {_mm512_set1_epi32(x)};
}
NIBBLE_SIMD I bits(F x) {
  return {_mm512_castps_si512(x.v)};
}
NIBBLE_SIMD F from_bits(I x) {
  return {_mm512_castsi512_ps(x.v)};
}
NIBBLE_SIMD I operator+(I a, I b) {
  return {_mm512_add_epi32(a.v, b.v)};
}
NIBBLE_SIMD I operator-(I a, I b) {
  return {_mm512_sub_epi32(a.v, b.v)};
}
NIBBLE_SIMD I operator&(I a, I b) {
  return {_mm512_and_si512(a.v, b.v)};
}
NIBBLE_SIMD I operator|(I a, I b) {
  return {_mm512_or_si512(a.v, b.v)};
}
NIBBLE_SIMD M operator>(I a, I b) {
  return {_mm512_cmpgt_epi32_mask(a.v, b.v)};
}  // signed
template <int n>
NIBBLE_SIMD I shift_left(I a) {
  return {_mm512_slli_epi32(a.v, n)};
}
template <int n>
NIBBLE_SIMD I shift_right(I a) {  // zeros come in
  return {_mm512_srli_epi32(a.v, n)};
}

NIBBLE_SIMD I load_i32(const std::int32_t* p) {
  return {_mm512_loadu_si512(p)};
}
NIBBLE_SIMD I load_u8(const std::uint8_t* p) {
  return {_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
NIBBLE_SIMD I load_u16(const std::uint16_t* p) {
  return {_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
// Lanes hold values that fit.
NIBBLE_SIMD void store_u8(std::uint8_t* p, I x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x.v));
}
NIBBLE_SIMD void store_u16(std::uint16_t* p, I x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x.v));
}
NIBBLE_SIMD F half_to_float(I x) {
  return {_mm512_cvtph_ps(_mm512_cvtepi32_epi16(x.v))};
}
NIBBLE_SIMD I float_to_half(F x) {
  return {_mm512_cvtepu16_epi32(_mm512_cvtps_ph(x.v, 8))};
}

NIBBLE_SIMD F to_float(I x) {
  return {_mm512_cvtepi32_ps(x.v)};
}
// table[i & 15]. kFastLookup: cheaper than masking and converting.
struct Table {
  __m512 v;
};
constexpr bool kFastLookup = true;
NIBBLE_SIMD Table load_table(const float* p) {
  return {_mm512_loadu_ps(p)};
}
NIBBLE_SIMD F lookup(Table table, I i) {
  return {_mm512_permutexvar_ps(i.v, table.v)};
}

NIBBLE_SIMD D zero_d() {
  return {_mm512_setzero_pd(), _mm512_setzero_pd()};
}
NIBBLE_SIMD D widen(F x) {
  return {_mm512_cvtps_pd(_mm512_castps512_ps256(x.v)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(x.v, 1))};
}
NIBBLE_SIMD F narrow(D x) {
  return {_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(x.lo)), _mm512_cvtpd_ps(x.hi), 1)};
}
NIBBLE_SIMD D broadcast(double x) {
  return {_mm512_set1_pd(x), _mm512_set1_pd(x)};
}
NIBBLE_SIMD D operator+(D a, D b) {
  return {_mm512_add_pd(a.lo, b.lo), _mm512_add_pd(a.hi, b.hi)};
}
NIBBLE_SIMD D operator-(D a, D b) {
  return {_mm512_sub_pd(a.lo, b.lo), _mm512_sub_pd(a.hi, b.hi)};
}
NIBBLE_SIMD D operator*(D a, D b) {
  return {_mm512_mul_pd(a.lo, b.lo), _mm512_mul_pd(a.hi, b.hi)};
}
// Lane i + lane i + 8, then 4, 2, 1 apart: the same tree at every level.
NIBBLE_SIMD double reduce_add(D x) {
  const __m512d a = _mm512_add_pd(x.lo, x.hi);
  const __m256d b = _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1));
  const __m128d c = _mm_add_pd(_mm256_castpd256_pd128(b), _mm256_extractf128_pd(b, 1));
  return _mm_cvtsd_f64(_mm_add_sd(c, _mm_unpackhi_pd(c, c)));
}

}  // namespace
}  // namespace nibble::kernels
