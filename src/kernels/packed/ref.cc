// SPDX-License-Identifier: Apache-2.0
// The layout read plainly, one code at a time: the oracle of the vector units.
#include "base/dtype.h"
#include "kernels/packed/table.h"

namespace nibble::kernels::packed {
namespace {

// The code of (row `lane`, `column`) in a strip of b-bit codes.
std::uint32_t read_code(const std::uint32_t* words, int bits, std::int64_t column, int lane) {
  const std::uint32_t* plane = words + column / kChunk * bits * kLanes;
  const auto t = static_cast<int>(column % kChunk);
  std::uint32_t code = 0;
  for (int left = bits, width = 8; left > 0; width /= 2) {
    if (width > left) continue;
    const int per_word = 32 / width;
    const std::uint32_t word = plane[t / per_word * kLanes + lane];
    code = code << width | ((word >> (t % per_word * width)) & ((1u << width) - 1u));
    plane += width * kLanes;
    left -= width;
  }
  return code;
}

float read_scale(const CodeStrip& strip, std::int64_t at) {
  if (strip.scale_type == ScaleType::kF32) return static_cast<const float*>(strip.scales)[at];
  const std::uint16_t code = static_cast<const std::uint16_t*>(strip.scales)[at];
  return strip.scale_type == ScaleType::kBf16 ? bf16_to_f32(code) : f16_to_f32(code);
}

template <class Decode>
void fill_with(const CodeStrip& strip, int bits, std::int64_t first, std::int64_t depth, float* out,
               Decode decode) {
  for (std::int64_t k = 0; k < depth; ++k) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const std::int64_t at = (first + k) / strip.group_size * kLanes + lane;
      const float value = decode(read_code(strip.words, bits, first + k, lane), at);
      out[k * kLanes + lane] = value * read_scale(strip, at);
    }
  }
}

template <int bits>
void fill_integer(const CodeStrip& strip, std::int64_t first, std::int64_t depth, float* out) {
  fill_with(strip, bits, first, depth, out, [&](std::uint32_t code, std::int64_t at) {
    const float zero =
        strip.zeros == nullptr ? static_cast<float>(1 << (bits - 1)) : static_cast<float>(strip.zeros[at]);
    return static_cast<float>(code) - zero;
  });
}

void fill_table(const CodeStrip& strip, std::int64_t first, std::int64_t depth, float* out) {
  fill_with(strip, 4, first, depth, out, [&](std::uint32_t code, std::int64_t) { return strip.table[code]; });
}

void fill_float8(const CodeStrip& strip, std::int64_t first, std::int64_t depth, float* out) {
  fill_with(strip, 8, first, depth, out,
            [&](std::uint32_t code, std::int64_t) { return f8e4m3_to_f32(static_cast<std::uint8_t>(code)); });
}

void fill_f16(const std::uint16_t* codes, std::int64_t depth, float* out) {
  for (std::int64_t i = 0; i < depth * kLanes; ++i) out[i] = f16_to_f32(codes[i]);
}

void fill_bf16(const std::uint16_t* codes, std::int64_t depth, float* out) {
  for (std::int64_t i = 0; i < depth * kLanes; ++i) out[i] = bf16_to_f32(codes[i]);
}

}  // namespace

const Kernels kPortable{{{},
                         {},
                         {fill_integer<2>, {}},
                         {fill_integer<3>, {}},
                         {fill_integer<4>, {}},
                         {fill_integer<5>, {}},
                         {fill_integer<6>, {}},
                         {fill_integer<7>, {}},
                         {fill_integer<8>, {}}},
                        {fill_table, {}},
                        {fill_float8, {}},
                        fill_f16,
                        fill_bf16};

}  // namespace nibble::kernels::packed
