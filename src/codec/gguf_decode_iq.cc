// SPDX-License-Identifier: Apache-2.0
// The non-linear GGUF types: IQ4, FP4, ternary, and the lattice types IQ1 to IQ3 (layouts: gguf_blocks.h,
// lattices: gguf_grids.cc).
#include <bit>

#include "codec/gguf_blocks.h"
#include "codec/gguf_decode.h"
#include "codec/gguf_grids.h"

namespace nibble::gguf {
namespace {

void iq4_nl(const BlockIq4Nl& b, float* out) {
  const float d = load_half(b.d);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * as_float(kIq4Levels[b.qs[j] & 15]);
    out[j + 16] = d * as_float(kIq4Levels[b.qs[j] >> 4]);
  }
}

void iq4_xs(const BlockIq4Xs& b, float* out) {
  const float d = load_half(b.d);
  const unsigned high = load_u16(b.scales_h);
  for (int sub = 0; sub < 8; ++sub) {
    const int low = (b.scales_l[sub / 2] >> (4 * (sub % 2))) & 15;
    const float scale = d * as_float((low | static_cast<int>((high >> (2 * sub)) & 3u) << 4) - 32);
    const std::uint8_t* qs = b.qs + 16 * sub;
    for (int j = 0; j < 16; ++j) {
      out[32 * sub + j] = scale * as_float(kIq4Levels[qs[j] & 15]);
      out[32 * sub + j + 16] = scale * as_float(kIq4Levels[qs[j] >> 4]);
    }
  }
}

void mxfp4(const BlockMxfp4& b, float* out) {
  const float d = e8m0_half(b.e);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * as_float(kFp4Levels[b.qs[j] & 15]);
    out[j + 16] = d * as_float(kFp4Levels[b.qs[j] >> 4]);
  }
}

// Scales are unsigned E4M3; ggml reads 0x7f as 0 and never writes the sign bit.
float nvfp4_half_scale(std::uint8_t code) {
  return code == 0x7f ? 0.0f : 0.5f * f8e4m3_to_f32(static_cast<std::uint8_t>(code & 0x7f));
}

void nvfp4(const BlockNvfp4& b, float* out) {
  for (int sub = 0; sub < 4; ++sub) {
    const float d = nvfp4_half_scale(b.d[sub]);
    const std::uint8_t* qs = b.qs + 8 * sub;
    for (int j = 0; j < 8; ++j) {
      out[16 * sub + j] = d * as_float(kFp4Levels[qs[j] & 15]);
      out[16 * sub + j + 8] = d * as_float(kFp4Levels[qs[j] >> 4]);
    }
  }
}

// A byte holds five ternary digits as a fraction of 256: multiplying by 3^n (mod 256) brings digit n to the
// top.
constexpr std::uint8_t kPowersOf3[5] = {1, 3, 9, 27, 81};
float ternary(std::uint8_t byte, int digit) {
  const auto shifted = static_cast<std::uint8_t>(byte * kPowersOf3[digit]);
  return as_float(((shifted * 3) >> 8) - 1);
}

void tq1_0(const BlockTq1& b, float* out) {
  const float d = load_half(b.d);
  for (int n = 0; n < 5; ++n) {
    for (int j = 0; j < 32; ++j) out[32 * n + j] = ternary(b.qs[j], n) * d;
    for (int j = 0; j < 16; ++j) out[160 + 16 * n + j] = ternary(b.qs[32 + j], n) * d;
  }
  for (int n = 0; n < 4; ++n) {
    for (int j = 0; j < 4; ++j) out[240 + 4 * n + j] = ternary(b.qh[j], n) * d;
  }
}

void tq2_0(const BlockTq2& b, float* out) {
  const float d = load_half(b.d);
  for (int half = 0; half < 2; ++half) {
    for (int n = 0; n < 4; ++n) {
      for (int j = 0; j < 32; ++j) {
        out[128 * half + 32 * n + j] = as_float(((b.qs[32 * half + j] >> (2 * n)) & 3) - 1) * d;
      }
    }
  }
}

// Seven stored sign bits; the eighth makes their number even.
std::uint8_t even_signs(std::uint32_t seven) {
  return static_cast<std::uint8_t>(seven | (static_cast<std::uint32_t>(std::popcount(seven)) & 1u) << 7);
}

template <std::size_t N>
void put_signed(const std::array<float, N>& point, float scale, unsigned signs, float* out) {
  for (std::size_t i = 0; i < N; ++i) {
    const auto magnitude = std::bit_cast<std::uint32_t>(scale * point[i]);
    out[i] = std::bit_cast<float>(magnitude ^ ((signs >> i) & 1u) << 31);
  }
}

void iq3_xxs(const BlockIq3Xxs& b, float* out) {
  static const auto grid = unpack_grid<4>(kIq3XxsGrid, kIq3XxsLevels);
  const float d = load_half(b.d);
  for (int sub = 0; sub < 8; ++sub) {
    const std::uint32_t word = load_u32(b.signs + 4 * sub);
    const float scale = d * (0.5f + static_cast<float>(word >> 28)) * 0.5f;
    for (int k = 0; k < 4; ++k) {
      const unsigned signs = even_signs((word >> (7 * k)) & 127u);
      const std::uint8_t* qs = b.qs + 8 * sub + 2 * k;
      put_signed(grid[qs[0]], scale, signs, out + 32 * sub + 8 * k);
      put_signed(grid[qs[1]], scale, signs >> 4, out + 32 * sub + 8 * k + 4);
    }
  }
}

void iq3_s(const BlockIq3S& b, float* out) {
  static const auto grid = unpack_grid<4>(kIq3SGrid, kIq3SLevels);
  const float d = load_half(b.d);
  for (int sub = 0; sub < 8; ++sub) {
    const float scale = d * as_float(1 + 2 * ((b.scales[sub / 2] >> (4 * (sub % 2))) & 15));
    for (int k = 0; k < 8; ++k) {
      const unsigned index = b.qs[8 * sub + k] | ((static_cast<unsigned>(b.qh[sub]) >> k) & 1u) << 8;
      const unsigned signs = static_cast<unsigned>(b.signs[4 * sub + k / 2]) >> (4 * (k % 2));
      put_signed(grid[index], scale, signs, out + 32 * sub + 4 * k);
    }
  }
}

void iq2_xxs(const BlockIq2Xxs& b, float* out) {
  static const auto grid = unpack_grid<8>(kIq2XxsGrid, kIq2Levels);
  const float d = load_half(b.d);
  for (int sub = 0; sub < 8; ++sub) {
    const std::uint8_t* qs = b.qs + 8 * sub;
    const std::uint32_t word = load_u32(qs + 4);
    const float scale = d * (0.5f + static_cast<float>(word >> 28)) * 0.25f;
    for (int k = 0; k < 4; ++k) {
      put_signed(grid[qs[k]], scale, even_signs((word >> (7 * k)) & 127u), out + 32 * sub + 8 * k);
    }
  }
}

float iq2_scale(float d, const std::uint8_t* scales, int sub16) {
  const int nibble = (scales[sub16 / 2] >> (4 * (sub16 % 2))) & 15;
  return d * (0.5f + as_float(nibble)) * 0.25f;
}

void iq2_xs(const BlockIq2Xs& b, float* out) {
  static const auto grid = unpack_grid<8>(kIq2XsGrid, kIq2Levels);
  const float d = load_half(b.d);
  for (int k = 0; k < 32; ++k) {
    const unsigned code = load_u16(b.qs + 2 * k);
    put_signed(grid[code & 511u], iq2_scale(d, b.scales, k / 2), even_signs(code >> 9), out + 8 * k);
  }
}

void iq2_s(const BlockIq2S& b, float* out) {
  static const auto grid = unpack_grid<8>(kIq2SGrid, kIq2Levels);
  const float d = load_half(b.d);
  for (int k = 0; k < 32; ++k) {
    const unsigned index = b.qs[k] | ((static_cast<unsigned>(b.qh[k / 4]) >> (2 * (k % 4))) & 3u) << 8;
    put_signed(grid[index], iq2_scale(d, b.scales, k / 2), b.signs[k], out + 8 * k);
  }
}

void put_shifted(const std::array<float, 8>& point, float scale, float delta, float* out) {
  for (std::size_t i = 0; i < 8; ++i) out[i] = scale * (point[i] + delta);
}

const Grid<2048, 8>& iq1_grid() {
  static const auto grid = unpack_grid<8>(kIq1SGrid, kIq1Levels);
  return grid;
}

void iq1_s(const BlockIq1S& b, float* out) {
  const float d = load_half(b.d);
  for (int sub = 0; sub < 8; ++sub) {
    const unsigned qh = load_u16(b.qh + 2 * sub);
    const float scale = d * static_cast<float>(2 * ((qh >> 12) & 7u) + 1);
    const float delta = qh & 0x8000u ? -0.125f : 0.125f;
    for (int k = 0; k < 4; ++k) {
      const unsigned index = b.qs[4 * sub + k] | ((qh >> (3 * k)) & 7u) << 8;
      put_shifted(iq1_grid()[index], scale, delta, out + 32 * sub + 8 * k);
    }
  }
}

// The fp16 scale is spread over the top nibbles of the four 16-bit words of `scales`; below them are the
// 3-bit scales.
void iq1_m(const BlockIq1M& b, float* out) {
  unsigned bits = 0;
  for (int w = 0; w < 4; ++w) bits |= (static_cast<unsigned>(load_u16(b.scales + 2 * w)) >> 12) << (4 * w);
  const float d = f16_to_f32(static_cast<std::uint16_t>(bits));
  for (int k = 0; k < 32; ++k) {
    const int sub16 = k / 2;
    const unsigned nibble = (static_cast<unsigned>(b.qh[k / 2]) >> (4 * (k % 2))) & 15u;
    const unsigned step =
        (static_cast<unsigned>(load_u16(b.scales + 2 * (sub16 / 4))) >> (3 * (sub16 % 4))) & 7u;
    const float delta = nibble & 8u ? -0.125f : 0.125f;
    put_shifted(iq1_grid()[b.qs[k] | (nibble & 7u) << 8], d * static_cast<float>(2 * step + 1), delta,
                out + 8 * k);
  }
}

}  // namespace

#define NIBBLE_GGUF_DECODER(name, Block, size)                                  \
  void decode_##name(const std::byte* blocks, std::int64_t count, float* out) { \
    decode_blocks<Block, size, name>(blocks, count, out);                       \
  }
NIBBLE_GGUF_DECODER(iq4_nl, BlockIq4Nl, 32)
NIBBLE_GGUF_DECODER(iq4_xs, BlockIq4Xs, kSuper)
NIBBLE_GGUF_DECODER(mxfp4, BlockMxfp4, 32)
NIBBLE_GGUF_DECODER(nvfp4, BlockNvfp4, 64)
NIBBLE_GGUF_DECODER(tq1_0, BlockTq1, kSuper)
NIBBLE_GGUF_DECODER(tq2_0, BlockTq2, kSuper)
NIBBLE_GGUF_DECODER(iq3_xxs, BlockIq3Xxs, kSuper)
NIBBLE_GGUF_DECODER(iq3_s, BlockIq3S, kSuper)
NIBBLE_GGUF_DECODER(iq2_xxs, BlockIq2Xxs, kSuper)
NIBBLE_GGUF_DECODER(iq2_xs, BlockIq2Xs, kSuper)
NIBBLE_GGUF_DECODER(iq2_s, BlockIq2S, kSuper)
NIBBLE_GGUF_DECODER(iq1_s, BlockIq1S, kSuper)
NIBBLE_GGUF_DECODER(iq1_m, BlockIq1M, kSuper)
#undef NIBBLE_GGUF_DECODER

}  // namespace nibble::gguf
