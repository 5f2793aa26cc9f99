// SPDX-License-Identifier: Apache-2.0
// Byte layouts of the GGUF block types (ggml 0.25, ggml-common.h). All fields are bytes, so that a block may
// lie at any address; values of 16 and 32 bits are little-endian and go through load / store.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "base/dtype.h"

namespace nibble::gguf {

inline constexpr int kSuper = 256;  // elements of a superblock

using Half = std::array<std::uint8_t, 2>;

inline std::uint16_t load_u16(const std::uint8_t* bytes) {
  return static_cast<std::uint16_t>(bytes[0] | (bytes[1] << 8));
}
inline std::uint32_t load_u32(const std::uint8_t* bytes) {
  return std::uint32_t{load_u16(bytes)} | std::uint32_t{load_u16(bytes + 2)} << 16;
}
// The arithmetic that decoders and encoders share.
inline float as_float(int value) {
  return static_cast<float>(value);
}
inline std::uint8_t byte(int value) {
  return static_cast<std::uint8_t>(value);
}
inline float inverse_or_zero(float value) {
  return value != 0 ? 1.0f / value : 0.0f;
}

inline float load_half(const Half& half) {
  return f16_to_f32(load_u16(half.data()));
}
inline void store_half(Half& half, float value) {
  const std::uint16_t bits = f32_to_f16(value);
  half[0] = static_cast<std::uint8_t>(bits & 0xffu);
  half[1] = static_cast<std::uint8_t>(bits >> 8);
}

struct BlockQ4_0 {
  Half d;
  std::uint8_t qs[16];
};
struct BlockQ4_1 {
  Half d, m;
  std::uint8_t qs[16];
};
struct BlockQ5_0 {
  Half d;
  std::uint8_t qh[4], qs[16];
};
struct BlockQ5_1 {
  Half d, m;
  std::uint8_t qh[4], qs[16];
};
struct BlockQ8_0 {
  Half d;
  std::int8_t qs[32];
};
struct BlockQ8_1 {
  Half d, s;
  std::int8_t qs[32];
};
struct BlockQ2K {
  std::uint8_t scales[16], qs[64];
  Half d, dmin;
};
struct BlockQ3K {
  std::uint8_t hmask[32], qs[64], scales[12];
  Half d;
};
struct BlockQ4K {
  Half d, dmin;
  std::uint8_t scales[12], qs[128];
};
struct BlockQ5K {
  Half d, dmin;
  std::uint8_t scales[12], qh[32], qs[128];
};
struct BlockQ6K {
  std::uint8_t ql[128], qh[64];
  std::int8_t scales[16];
  Half d;
};
struct BlockQ8K {
  std::uint8_t d[4];
  std::int8_t qs[256];
  std::uint8_t sums[32];
};
struct BlockIq4Nl {
  Half d;
  std::uint8_t qs[16];
};
struct BlockIq4Xs {
  Half d;
  std::uint8_t scales_h[2], scales_l[4], qs[128];
};
struct BlockIq3Xxs {
  Half d;
  std::uint8_t qs[64], signs[32];
};
struct BlockIq3S {
  Half d;
  std::uint8_t qs[64], qh[8], signs[32], scales[4];
};
struct BlockIq2Xxs {
  Half d;
  std::uint8_t qs[64];
};
struct BlockIq2Xs {
  Half d;
  std::uint8_t qs[64], scales[8];
};
struct BlockIq2S {
  Half d;
  std::uint8_t qs[32], signs[32], qh[8], scales[8];
};
struct BlockIq1S {
  Half d;
  std::uint8_t qs[32], qh[16];
};
struct BlockIq1M {
  std::uint8_t qs[32], qh[16], scales[8];
};
struct BlockTq1 {
  std::uint8_t qs[48], qh[4];
  Half d;
};
struct BlockTq2 {
  std::uint8_t qs[64];
  Half d;
};
struct BlockMxfp4 {
  std::uint8_t e, qs[16];
};
struct BlockNvfp4 {
  std::uint8_t d[4], qs[32];
};

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_1) == 36);
static_assert(sizeof(BlockQ2K) == 84 && sizeof(BlockQ3K) == 110 && sizeof(BlockQ4K) == 144);
static_assert(sizeof(BlockQ5K) == 176 && sizeof(BlockQ6K) == 210 && sizeof(BlockQ8K) == 292);
static_assert(sizeof(BlockIq4Xs) == 136 && sizeof(BlockIq3Xxs) == 98 && sizeof(BlockIq3S) == 110);
static_assert(sizeof(BlockIq2Xxs) == 66 && sizeof(BlockIq2Xs) == 74 && sizeof(BlockIq2S) == 82);
static_assert(sizeof(BlockIq1S) == 50 && sizeof(BlockIq1M) == 56 && sizeof(BlockTq1) == 54);
static_assert(sizeof(BlockMxfp4) == 17 && sizeof(BlockNvfp4) == 36);

// Scale and min of sub-block j (0 to 7) in the 12 bytes of Q4_K and Q5_K: 6 bits each; the first four of each
// lie in the low bits of bytes 0-7, the rest is put together from a nibble of bytes 8-11 and the two high
// bits above.
struct ScaleMin {
  std::uint8_t scale, min;
};
inline ScaleMin unpack_scale_min(const std::uint8_t* s, int j) {
  if (j < 4) return {static_cast<std::uint8_t>(s[j] & 63), static_cast<std::uint8_t>(s[j + 4] & 63)};
  return {static_cast<std::uint8_t>((s[j + 4] & 15) | ((s[j - 4] >> 6) << 4)),
          static_cast<std::uint8_t>((s[j + 4] >> 4) | ((s[j] >> 6) << 4))};
}

// Sub-block scale j (0 to 15) of Q3_K, 6 bits, offset 32: low nibbles in bytes 0-7, high pairs in bytes 8-11.
inline int unpack_q3_scale(const std::uint8_t* s, int j) {
  const int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4;
  const int high = (s[8 + (j & 3)] >> (2 * (j >> 2))) & 3;
  return (low | (high << 4)) - 32;
}

// 2^(e - 128): half of the E8M0 value, because FP4 levels are stored doubled.
inline float e8m0_half(std::uint8_t e) {
  return std::bit_cast<float>(e < 2 ? 0x00200000u << e : static_cast<std::uint32_t>(e - 1) << 23);
}

}  // namespace nibble::gguf
