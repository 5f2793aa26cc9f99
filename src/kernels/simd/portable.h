// SPDX-License-Identifier: Apache-2.0
// The vector vocabulary (see avx512.h) in plain loops, for the reference units. fma() rounds twice here.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "base/dtype.h"

#define NIBBLE_SIMD [[gnu::always_inline]] inline

namespace nibble::kernels {
namespace {

struct F {
  float v[16];
};
struct I {
  std::int32_t v[16];
};
struct M {
  bool v[16];
};
struct D {
  double v[16];
};

template <class To, class Make>
NIBBLE_SIMD To lanes(Make make) {
  To out;
  for (int i = 0; i < 16; ++i) out.v[i] = make(i);
  return out;
}

NIBBLE_SIMD F broadcast(float x) {
  return lanes<F>([&](int) { return x; });
}
NIBBLE_SIMD F load(const float* p) {
  return lanes<F>([&](int i) { return p[i]; });
}
NIBBLE_SIMD void store(float* p, F x) {
  for (int i = 0; i < 16; ++i) p[i] = x.v[i];
}
NIBBLE_SIMD F load(const float* p, std::int64_t count, F fill) {
  return lanes<F>([&](int i) { return i < count ? p[i] : fill.v[i]; });
}
NIBBLE_SIMD void store(float* p, std::int64_t count, F x) {
  for (int i = 0; i < count; ++i) p[i] = x.v[i];
}

NIBBLE_SIMD F operator+(F a, F b) {
  return lanes<F>([&](int i) { return a.v[i] + b.v[i]; });
}
NIBBLE_SIMD F operator-(F a, F b) {
  return lanes<F>([&](int i) { return a.v[i] - b.v[i]; });
}
NIBBLE_SIMD F operator*(F a, F b) {
  return lanes<F>([&](int i) { return a.v[i] * b.v[i]; });
}
NIBBLE_SIMD F operator/(F a, F b) {
  return lanes<F>([&](int i) { return a.v[i] / b.v[i]; });
}
NIBBLE_SIMD F fma(F a, F b, F c) {
  return lanes<F>([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
}
NIBBLE_SIMD F max(F a, F b) {
  return lanes<F>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
NIBBLE_SIMD F min(F a, F b) {
  return lanes<F>([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
// |a| < 2^22, as everywhere in the algorithms above it; NaN stays NaN.
NIBBLE_SIMD F round_even(F a) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23
  return lanes<F>([&](int i) { return (a.v[i] + kShift) - kShift; });
}
NIBBLE_SIMD F scale_by_power(F x, F n) {
  return lanes<F>([&](int i) {
    const auto whole = static_cast<std::int32_t>(n.v[i] == n.v[i] ? n.v[i] : 0.0f);
    const std::int32_t half = whole >> 1;
    return x.v[i] * std::bit_cast<float>((half + 127) << 23) *
           std::bit_cast<float>((whole - half + 127) << 23);
  });
}
NIBBLE_SIMD float reduce_max(F a) {
  float out = a.v[0];
  for (int i = 1; i < 16; ++i) out = a.v[i] > out ? a.v[i] : out;
  return out;
}

NIBBLE_SIMD M operator<(F a, F b) {
  return lanes<M>([&](int i) { return a.v[i] < b.v[i]; });
}
NIBBLE_SIMD F select(M m, F yes, F no) {
  return lanes<F>([&](int i) { return m.v[i] ? yes.v[i] : no.v[i]; });
}
NIBBLE_SIMD I select(M m, I yes, I no) {
  return lanes<I>([&](int i) { return m.v[i] ? yes.v[i] : no.v[i]; });
}

NIBBLE_SIMD I broadcast(std::int32_t x) {
  return lanes<I>([&](int) { return x; });
}
NIBBLE_SIMD I bits(F x) {
  return std::bit_cast<I>(x);
}
NIBBLE_SIMD F from_bits(I x) {
  return std::bit_cast<F>(x);
}
NIBBLE_SIMD I operator+(I a, I b) {
  return lanes<I>([&](int i) { return a.v[i] + b.v[i]; });
}
NIBBLE_SIMD I operator-(I a, I b) {
  return lanes<I>([&](int i) { return a.v[i] - b.v[i]; });
}
NIBBLE_SIMD I operator&(I a, I b) {
  return lanes<I>([&](int i) { return a.v[i] & b.v[i]; });
}
NIBBLE_SIMD I operator|(I a, I b) {
  return lanes<I>([&](int i) { return a.v[i] | b.v[i]; });
}
NIBBLE_SIMD M operator>(I a, I b) {
  return lanes<M>([&](int i) { return a.v[i] > b.v[i]; });
}
template <int n>
NIBBLE_SIMD I shift_left(I a) {
  return lanes<I>([&](int i) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(a.v[i]) << n); });
}
template <int n>
NIBBLE_SIMD I shift_right(I a) {
  return lanes<I>([&](int i) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(a.v[i]) >> n); });
}

NIBBLE_SIMD I load_i32(const std::int32_t* p) {
  return lanes<I>([&](int i) { return p[i]; });
}
NIBBLE_SIMD I load_u8(const std::uint8_t* p) {
  return lanes<I>([&](int i) { return std::int32_t{p[i]}; });
}
NIBBLE_SIMD I load_u16(const std::uint16_t* p) {
  return lanes<I>([&](int i) { return std::int32_t{p[i]}; });
}
NIBBLE_SIMD void store_u8(std::uint8_t* p, I x) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<std::uint8_t>(x.v[i]);
}
NIBBLE_SIMD void store_u16(std::uint16_t* p, I x) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<std::uint16_t>(x.v[i]);
}
NIBBLE_SIMD F half_to_float(I x) {
  return lanes<F>([&](int i) { return f16_to_f32(static_cast<std::uint16_t>(x.v[i])); });
}
NIBBLE_SIMD I float_to_half(F x) {
  return lanes<I>([&](int i) { return std::int32_t{f32_to_f16(x.v[i])}; });
}

NIBBLE_SIMD F to_float(I x) {
  return lanes<F>([&](int i) { return static_cast<float>(x.v[i]); });
}
struct Table {
  float v[16];
};
constexpr bool kFastLookup = false;
NIBBLE_SIMD Table load_table(const float* p) {
  return lanes<Table>([&](int i) { return p[i]; });
}
NIBBLE_SIMD F lookup(Table table, I x) {
  return lanes<F>([&](int i) { return table.v[x.v[i] & 15]; });
}

NIBBLE_SIMD D zero_d() {
  return lanes<D>([](int) { return 0.0; });
}
NIBBLE_SIMD D widen(F x) {
  return lanes<D>([&](int i) { return static_cast<double>(x.v[i]); });
}
NIBBLE_SIMD F narrow(D x) {
  return lanes<F>([&](int i) { return static_cast<float>(x.v[i]); });
}
NIBBLE_SIMD D broadcast(double x) {
  return lanes<D>([&](int) { return x; });
}
NIBBLE_SIMD D operator+(D a, D b) {
  return lanes<D>([&](int i) { return a.v[i] + b.v[i]; });
}
NIBBLE_SIMD D operator-(D a, D b) {
  return lanes<D>([&](int i) { return a.v[i] - b.v[i]; });
}
NIBBLE_SIMD D operator*(D a, D b) {
  return lanes<D>([&](int i) { return a.v[i] * b.v[i]; });
}
NIBBLE_SIMD double reduce_add(D x) {
  double a[8], b[4];
  for (int i = 0; i < 8; ++i) a[i] = x.v[i] + x.v[i + 8];
  for (int i = 0; i < 4; ++i) b[i] = a[i] + a[i + 4];
  return (b[0] + b[2]) + (b[1] + b[3]);
}

}  // namespace
}  // namespace nibble::kernels
