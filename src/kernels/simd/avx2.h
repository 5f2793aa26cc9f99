// SPDX-License-Identifier: Apache-2.0
// The vector vocabulary (see avx512.h) for AVX2 units: pairs of 256-bit registers.
#pragma once

#include <immintrin.h>

#include <cstdint>

#define NIBBLE_SIMD [[gnu::always_inline]] inline

namespace nibble::kernels {
namespace {

struct F {
  __m256 lo, hi;
};
struct I {
  __m256i lo, hi;
};
struct M {
  __m256i lo, hi;  // all bits of a lane set or none
};
struct D {
  __m256d v[4];
};

NIBBLE_SIMD M first_lanes(std::int64_t count) {
  const __m256i n = _mm256_set1_epi32(static_cast<int>(count));
  return {_mm256_cmpgt_epi32(n, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
          _mm256_cmpgt_epi32(n, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15))};
}

NIBBLE_SIMD F broadcast(float x) {
  return {_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
NIBBLE_SIMD F load(const float* p) {
  return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
NIBBLE_SIMD void store(float* p, F x) {
  _mm256_storeu_ps(p, x.lo);
  _mm256_storeu_ps(p + 8, x.hi);
}
NIBBLE_SIMD F load(const float* p, std::int64_t count, F fill) {
  const M m = first_lanes(count);
  return {_mm256_blendv_ps(fill.lo, _mm256_maskload_ps(p, m.lo), _mm256_castsi256_ps(m.lo)),
          _mm256_blendv_ps(fill.hi, _mm256_maskload_ps(p + 8, m.hi), _mm256_castsi256_ps(m.hi))};
}
NIBBLE_SIMD void store(float* p, std::int64_t count, F x) {
  const M m = first_lanes(count);
  _mm256_maskstore_ps(p, m.lo, x.lo);
  _mm256_maskstore_ps(p + 8, m.hi, x.hi);
}

NIBBLE_SIMD F operator+(F a, F b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
NIBBLE_SIMD F operator-(F a, F b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
NIBBLE_SIMD F operator*(F a, F b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
NIBBLE_SIMD F operator/(F a, F b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
NIBBLE_SIMD F fma(F a, F b, F c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
NIBBLE_SIMD F max(F a, F b) {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
NIBBLE_SIMD F min(F a, F b) {
  return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
NIBBLE_SIMD F round_even(F a) {
  return {_mm256_round_ps(a.lo, 8), _mm256_round_ps(a.hi, 8)};
}

// 2^n in two factors of nearly equal size, so that a subnormal result is rounded once.
NIBBLE_SIMD __m256 scale_half(__m256 x, __m256 n) {
  const __m256i whole = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(whole, 1);
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256i a = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
  const __m256i b = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias), 23);
  return _mm256_mul_ps(_mm256_mul_ps(x, _mm256_castsi256_ps(a)), _mm256_castsi256_ps(b));
}
NIBBLE_SIMD F scale_by_power(F x, F n) {
  return {scale_half(x.lo, n.lo), scale_half(x.hi, n.hi)};
}
NIBBLE_SIMD float reduce_max(F a) {
  const __m256 b = _mm256_max_ps(a.lo, a.hi);
  const __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  const __m128 d = _mm_max_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_max_ss(d, _mm_shuffle_ps(d, d, 1)));
}

NIBBLE_SIMD M operator<(F a, F b) {
  return {_mm256_castps_si256(_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
          _mm256_castps_si256(_mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}
NIBBLE_SIMD F select(M m, F yes, F no) {
  return {_mm256_blendv_ps(no.lo, yes.lo, _mm256_castsi256_ps(m.lo)),
          _mm256_blendv_ps(no.hi, yes.hi, _mm256_castsi256_ps(m.hi))};
}
NIBBLE_SIMD I select(M m, I yes, I no) {
  return {_mm256_blendv_epi8(no.lo, yes.lo, m.lo), _mm256_blendv_epi8(no.hi, yes.hi, m.hi)};
}

NIBBLE_SIMD I broadcast(std::int32_t x) {
  return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}
NIBBLE_SIMD I bits(F x) {
  return {_mm256_castps_si256(x.lo), _mm256_castps_si256(x.hi)};
}
NIBBLE_SIMD F from_bits(I x) {
  return {_mm256_castsi256_ps(x.lo), _mm256_castsi256_ps(x.hi)};
}
NIBBLE_SIMD I operator+(I a, I b) {
  return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
}
NIBBLE_SIMD I operator-(I a, I b) {
  return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)};
}
NIBBLE_SIMD I operator&(I a, I b) {
  return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)};
}
NIBBLE_SIMD I operator|(I a, I b) {
  return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)};
}
NIBBLE_SIMD M operator>(I a, I b) {
  return {_mm256_cmpgt_epi32(a.lo, b.lo), _mm256_cmpgt_epi32(a.hi, b.hi)};
}
template <int n>
NIBBLE_SIMD I shift_left(I a) {
  return {_mm256_slli_epi32(a.lo, n), _mm256_slli_epi32(a.hi, n)};
}
template <int n>
NIBBLE_SIMD I shift_right(I a) {
  return {_mm256_srli_epi32(a.lo, n), _mm256_srli_epi32(a.hi, n)};
}

NIBBLE_SIMD __m128i load_128(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
NIBBLE_SIMD void store_128(void* p, __m128i x) {
  _mm_storeu_si128(static_cast<__m128i*>(p), x);
}

NIBBLE_SIMD I load_i32(const std::int32_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8))};
}
NIBBLE_SIMD I load_u8(const std::uint8_t* p) {
  const __m128i x = load_128(p);
  return {_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8))};
}
NIBBLE_SIMD I load_u16(const std::uint16_t* p) {
  return {_mm256_cvtepu16_epi32(load_128(p)), _mm256_cvtepu16_epi32(load_128(p + 8))};
}
// Eight lanes that fit 16 bits each.
NIBBLE_SIMD __m128i pack_16(__m256i x) {
  return _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
}
NIBBLE_SIMD void store_u8(std::uint8_t* p, I x) {
  store_128(p, _mm_packus_epi16(pack_16(x.lo), pack_16(x.hi)));
}
NIBBLE_SIMD void store_u16(std::uint16_t* p, I x) {
  store_128(p, pack_16(x.lo));
  store_128(p + 8, pack_16(x.hi));
}
NIBBLE_SIMD F half_to_float(I x) {
  return {_mm256_cvtph_ps(pack_16(x.lo)), _mm256_cvtph_ps(pack_16(x.hi))};
}
NIBBLE_SIMD I float_to_half(F x) {
  return {_mm256_cvtepu16_epi32(_mm256_cvtps_ph(x.lo, 8)), _mm256_cvtepu16_epi32(_mm256_cvtps_ph(x.hi, 8))};
}

NIBBLE_SIMD F to_float(I x) {
  return {_mm256_cvtepi32_ps(x.lo), _mm256_cvtepi32_ps(x.hi)};
}
struct Table {
  __m256 lo, hi;
};
constexpr bool kFastLookup = false;
NIBBLE_SIMD Table load_table(const float* p) {
  return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
NIBBLE_SIMD __m256 lookup_half(Table table, __m256i i) {
  const __m256 high = _mm256_castsi256_ps(_mm256_slli_epi32(i, 28));  // bit 3 becomes the sign
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(table.lo, i), _mm256_permutevar8x32_ps(table.hi, i), high);
}
NIBBLE_SIMD F lookup(Table table, I i) {
  return {lookup_half(table, i.lo), lookup_half(table, i.hi)};
}

NIBBLE_SIMD D zero_d() {
  const __m256d z = _mm256_setzero_pd();
  return {{z, z, z, z}};
}
NIBBLE_SIMD D widen(F x) {
  return {{_mm256_cvtps_pd(_mm256_castps256_ps128(x.lo)), _mm256_cvtps_pd(_mm256_extractf128_ps(x.lo, 1)),
           _mm256_cvtps_pd(_mm256_castps256_ps128(x.hi)), _mm256_cvtps_pd(_mm256_extractf128_ps(x.hi, 1))}};
}
NIBBLE_SIMD F narrow(D x) {
  return {_mm256_set_m128(_mm256_cvtpd_ps(x.v[1]), _mm256_cvtpd_ps(x.v[0])),
          _mm256_set_m128(_mm256_cvtpd_ps(x.v[3]), _mm256_cvtpd_ps(x.v[2]))};
}
NIBBLE_SIMD D broadcast(double x) {
  const __m256d v = _mm256_set1_pd(x);
  return {{v, v, v, v}};
}
NIBBLE_SIMD D operator+(D a, D b) {
  return {{_mm256_add_pd(a.v[0], b.v[0]), _mm256_add_pd(a.v[1], b.v[1]), _mm256_add_pd(a.v[2], b.v[2]),
           _mm256_add_pd(a.v[3], b.v[3])}};
}
NIBBLE_SIMD D operator-(D a, D b) {
  return {{_mm256_sub_pd(a.v[0], b.v[0]), _mm256_sub_pd(a.v[1], b.v[1]), _mm256_sub_pd(a.v[2], b.v[2]),
           _mm256_sub_pd(a.v[3], b.v[3])}};
}
NIBBLE_SIMD D operator*(D a, D b) {
  return {{_mm256_mul_pd(a.v[0], b.v[0]), _mm256_mul_pd(a.v[1], b.v[1]), _mm256_mul_pd(a.v[2], b.v[2]),
           _mm256_mul_pd(a.v[3], b.v[3])}};
}
NIBBLE_SIMD double reduce_add(D x) {
  const __m256d b = _mm256_add_pd(_mm256_add_pd(x.v[0], x.v[2]), _mm256_add_pd(x.v[1], x.v[3]));
  const __m128d c = _mm_add_pd(_mm256_castpd256_pd128(b), _mm256_extractf128_pd(b, 1));
  return _mm_cvtsd_f64(_mm_add_sd(c, _mm_unpackhi_pd(c, c)));
}

}  // namespace
}  // namespace nibble::kernels
