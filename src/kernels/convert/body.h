// SPDX-License-Identifier: Apache-2.0
// Conversions over the vector vocabulary. base/dtype.h defines every bit of the result, NaN payloads
// included.
#pragma once

#include <cstdint>

#include "kernels/convert/table.h"

namespace nibble::kernels::convert {
namespace {

constexpr std::int64_t kLanes = 16;

NIBBLE_SIMD I word(std::uint32_t x) {
  return broadcast(static_cast<std::int32_t>(x));
}

struct Bf16 {
  using Code = std::uint16_t;
  NIBBLE_SIMD static F decode(I x) { return from_bits(shift_left<16>(x)); }
  NIBBLE_SIMD static I encode(F x) {
    const I b = bits(x);
    const I rounded = shift_right<16>(b + word(0x7fff) + (shift_right<16>(b) & word(1)));
    return select((b & word(0x7fffffff)) > word(0x7f800000), shift_right<16>(b) | word(0x40), rounded);
  }
};

// The hardware makes signalling NaNs quiet when it widens; dtype.h keeps their bits.
struct F16 {
  using Code = std::uint16_t;
  NIBBLE_SIMD static F decode(I x) {
    const I nan = shift_left<16>(x & word(0x8000)) | word(0x7f800000) | shift_left<13>(x & word(0x3ff));
    return from_bits(select((x & word(0x7fff)) > word(0x7c00), nan, bits(half_to_float(x))));
  }
  NIBBLE_SIMD static I encode(F x) { return float_to_half(x); }
};

// As an F16 with the same mantissa bits the value is 2^-8 times itself; subnormals included.
struct F8E4M3 {
  using Code = std::uint8_t;
  NIBBLE_SIMD static F decode(I x) {
    const I magnitude = x & word(0x7f), sign = x & word(0x80);
    const F value = half_to_float(shift_left<8>(sign) | shift_left<7>(magnitude)) * broadcast(256.0f);
    return from_bits(select(magnitude > word(0x7e), shift_left<24>(sign) | word(0x7fc00000), bits(value)));
  }
  NIBBLE_SIMD static I encode(F x) {
    const I sign = shift_right<24>(bits(x)) & word(0x80);
    const I magnitude = bits(x) & word(0x7fffffff);
    const I rebased = magnitude - word(120u << 23);
    const I normal = shift_right<20>(rebased + word((1u << 19) - 1) + (shift_right<20>(rebased) & word(1)));
    // Adding 2^14 rounds to multiples of 2^-9, the step of the subnormals.
    const I subnormal = bits(from_bits(magnitude) + broadcast(16384.0f)) - bits(broadcast(16384.0f));
    const I code = select(word(121u << 23) > magnitude, subnormal, normal);
    return sign | select(magnitude > word(0x43e7ffff), word(0x7f), code);
  }
};

struct F8E5M2 {
  using Code = std::uint8_t;
  NIBBLE_SIMD static F decode(I x) { return F16::decode(shift_left<8>(x)); }
  NIBBLE_SIMD static I encode(F x) {
    const I sign = shift_right<24>(bits(x)) & word(0x80);
    const I magnitude = bits(x) & word(0x7fffffff);
    const I rebased = magnitude - word(112u << 23);
    const I normal = shift_right<21>(rebased + word((1u << 20) - 1) + (shift_right<21>(rebased) & word(1)));
    // Multiples of 2^-16.
    const I subnormal = bits(from_bits(magnitude) + broadcast(128.0f)) - bits(broadcast(128.0f));
    const I code = select(word(113u << 23) > magnitude, subnormal, normal);
    const I finite = select(magnitude > word(0x476fffff), word(0x7c), code);
    return sign | select(magnitude > word(0x7f800000), word(0x7f), finite);
  }
};

NIBBLE_SIMD I load_codes(const std::uint8_t* p) {
  return load_u8(p);
}
NIBBLE_SIMD I load_codes(const std::uint16_t* p) {
  return load_u16(p);
}
NIBBLE_SIMD void store_codes(std::uint8_t* p, I x) {
  store_u8(p, x);
}
NIBBLE_SIMD void store_codes(std::uint16_t* p, I x) {
  store_u16(p, x);
}

// The last, incomplete vector goes through a local array; bytes may be unaligned for the code type.
template <class Format>
void decode(const void* bytes, std::int64_t count, float* out) {
  using Code = typename Format::Code;
  const auto* from = static_cast<const unsigned char*>(bytes);
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    store(out + i,
          Format::decode(load_codes(reinterpret_cast<const Code*>(from + i * std::int64_t{sizeof(Code)}))));
  }
  if (i == count) return;
  Code rest[kLanes] = {};
  __builtin_memcpy(rest, from + i * std::int64_t{sizeof(Code)},
                   static_cast<std::size_t>(count - i) * sizeof(Code));
  store(out + i, count - i, Format::decode(load_codes(rest)));
}

template <class Format>
void encode(const float* values, std::int64_t count, void* bytes) {
  using Code = typename Format::Code;
  auto* to = static_cast<unsigned char*>(bytes);
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    store_codes(reinterpret_cast<Code*>(to + i * std::int64_t{sizeof(Code)}),
                Format::encode(load(values + i)));
  }
  if (i == count) return;
  Code rest[kLanes];
  store_codes(rest, Format::encode(load(values + i, count - i, broadcast(0.0f))));
  __builtin_memcpy(to + i * std::int64_t{sizeof(Code)}, rest,
                   static_cast<std::size_t>(count - i) * sizeof(Code));
}

constexpr Kernels make_kernels() {
  return {{decode<F16>, encode<F16>},
          {decode<Bf16>, encode<Bf16>},
          {decode<F8E4M3>, encode<F8E4M3>},
          {decode<F8E5M2>, encode<F8E5M2>}};
}

}  // namespace
}  // namespace nibble::kernels::convert
