// SPDX-License-Identifier: Apache-2.0
// Quantizers of the K types and IQ4. Two levels: every sub-block finds its own scale (and min), then these
// are quantized themselves, and last all codes are rounded again under the scales as stored.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "codec/gguf_blocks.h"
#include "codec/gguf_encode.h"
#include "codec/gguf_fits.h"
#include "codec/gguf_grids.h"
#include "kernels/gguf_fit.h"

namespace nibble::gguf {
namespace {

float sum_of_squares(const float* x, int count) {
  float sum = 0;
  for (int i = 0; i < count; ++i) sum += x[i] * x[i];
  return sum;
}

// The arguments of one superblock.
struct Source {
  const float* x;
  const float* importance;  // null: none
};

template <class Block, void (*One)(const Source&, Block&)>
void encode_superblocks(const float* row, std::int64_t count, const float* importance, std::byte* blocks) {
  auto* block = reinterpret_cast<Block*>(blocks);
  for (std::int64_t i = 0; i < count / kSuper; ++i) {
    One({row + i * kSuper, importance == nullptr ? nullptr : importance + i * kSuper}, block[i]);
  }
}

// Weights of sub-block `sub` under an importance.
void importance_weights(const Source& source, int first, int count, float mean_square, float* weights) {
  for (int i = 0; i < count; ++i) {
    const float x = source.x[first + i];
    weights[i] = source.importance[first + i] * std::sqrt(mean_square + x * x);
  }
}

// ---- types with a scale and a min: Q2_K, Q4_K, Q5_K

template <int subs>
struct MinLevels {
  std::uint8_t codes[kSuper] = {};
  std::uint8_t scale[subs] = {};
  std::uint8_t min[subs] = {};
  float d = 0;
  float dmin = 0;
};

struct MinType {
  int top;                   // largest code of a weight
  int scale_top;             // largest code of a scale or min
  kernels::MinSearch plain;  // without importance
  float mean_factor;         // importance weights use mean_factor * mean square
  bool weights_are_magnitudes;
};

constexpr MinType kQ2{3, 15, {3, -0.5f, 0.1f, 15, true}, 1.0f, true};
constexpr MinType kQ4{15, 63, {15, -1.0f, 0.1f, 20, false}, 2.0f, false};
constexpr MinType kQ5{31, 63, {31, -0.5f, 0.1f, 15, false}, 2.0f, false};

// The largest scale gets the largest code.
template <std::size_t subs>
float quantize_from_largest(const std::array<float, subs>& values, int top, std::uint8_t* codes) {
  const float largest = std::max(0.0f, *std::max_element(values.begin(), values.end()));
  const float inverse = largest > 0 ? as_float(top) / largest : 0.0f;
  for (std::size_t j = 0; j < subs; ++j) codes[j] = byte(std::min(top, nearest(inverse * values[j])));
  return largest / as_float(top);
}

template <int subs>
MinLevels<subs> min_levels(const Source& source, const MinType& type) {
  constexpr int kSub = kSuper / subs;
  MinLevels<subs> out;
  std::array<float, subs> scales;
  std::array<float, subs> mins;
  std::array<float, subs> total{};
  const float mean_square = type.mean_factor * sum_of_squares(source.x, kSuper) / as_float(kSuper);
  float weights[kSuper];
  for (int j = 0; j < subs; ++j) {
    const float* x = source.x + kSub * j;
    float* sub_weights = weights + kSub * j;
    if (source.importance != nullptr) {
      importance_weights(source, kSub * j, kSub, mean_square, sub_weights);
    } else {
      const float offset =
          type.weights_are_magnitudes ? 0.0f : std::sqrt(sum_of_squares(x, kSub) / as_float(kSub));
      for (int i = 0; i < kSub; ++i) sub_weights[i] = offset + std::fabs(x[i]);
    }
    for (int i = 0; i < kSub; ++i) total[static_cast<std::size_t>(j)] += sub_weights[i];
  }
  const kernels::MinSearch weighted{type.top, -0.9f, 0.05f, 36, false};
  const kernels::MinSearch& search = source.importance == nullptr ? type.plain : weighted;
  kernels::fit_scale_min(search, kSub, subs, source.x, weights, out.codes, scales.data(), mins.data());
  if (source.importance != nullptr) {
    out.d = fit_positive(scales, type.scale_top, total, out.scale);
    out.dmin = fit_positive(mins, type.scale_top, total, out.min);
  } else {
    out.d = quantize_from_largest(scales, type.scale_top, out.scale);
    out.dmin = quantize_from_largest(mins, type.scale_top, out.min);
  }
  return out;
}

// Codes again, under the stored scales; a sub-block whose scale became 0 keeps its codes, which mean nothing
// then.
template <int subs>
void round_again(const Source& source, int top, float d, float dmin, MinLevels<subs>& levels) {
  constexpr int kSub = kSuper / subs;
  for (int j = 0; j < subs; ++j) {
    const float scale = d * as_float(levels.scale[j]);
    if (scale == 0) continue;
    const float min = dmin * as_float(levels.min[j]);
    for (int i = kSub * j; i < kSub * (j + 1); ++i) {
      levels.codes[i] = byte(std::clamp(nearest((source.x[i] + min) / scale), 0, top));
    }
  }
}

// Two bits a value: 128 values share 32 bytes, in four runs of 32.
void pack_pairs(const std::uint8_t* codes, std::uint8_t* qs) {
  for (int i = 0; i < 64; ++i) {
    const std::uint8_t* first = codes + 128 * (i / 32) + i % 32;
    qs[i] = byte((first[0] & 3) | (first[32] & 3) << 2 | (first[64] & 3) << 4 | (first[96] & 3) << 6);
  }
}

// Four bits a value: 64 values share 32 bytes, low nibbles first.
void pack_nibbles(const std::uint8_t* codes, std::uint8_t* qs) {
  for (int i = 0; i < 128; ++i) {
    const std::uint8_t* first = codes + 64 * (i / 32) + i % 32;
    qs[i] = byte((first[0] & 15) | (first[32] & 15) << 4);
  }
}

// The inverse of unpack_scale_min.
void pack_scale_min(const std::uint8_t* scale, const std::uint8_t* min, std::uint8_t* out) {
  for (int j = 0; j < 4; ++j) {
    out[j] = byte(scale[j] | (scale[j + 4] >> 4) << 6);
    out[j + 4] = byte(min[j] | (min[j + 4] >> 4) << 6);
    out[j + 8] = byte((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
  }
}

void q2_k(const Source& source, BlockQ2K& block) {
  MinLevels<16> levels = min_levels<16>(source, kQ2);
  store_half(block.d, levels.d);
  store_half(block.dmin, levels.dmin);
  round_again(source, kQ2.top, load_half(block.d), load_half(block.dmin), levels);
  for (int j = 0; j < 16; ++j) block.scales[j] = byte(levels.scale[j] | levels.min[j] << 4);
  pack_pairs(levels.codes, block.qs);
}

void q4_k(const Source& source, BlockQ4K& block) {
  MinLevels<8> levels = min_levels<8>(source, kQ4);
  store_half(block.d, levels.d);
  store_half(block.dmin, levels.dmin);
  round_again(source, kQ4.top, load_half(block.d), load_half(block.dmin), levels);
  pack_scale_min(levels.scale, levels.min, block.scales);
  pack_nibbles(levels.codes, block.qs);
}

void q5_k(const Source& source, BlockQ5K& block) {
  MinLevels<8> levels = min_levels<8>(source, kQ5);
  store_half(block.d, levels.d);
  store_half(block.dmin, levels.dmin);
  round_again(source, kQ5.top, load_half(block.d), load_half(block.dmin), levels);
  pack_scale_min(levels.scale, levels.min, block.scales);
  pack_nibbles(levels.codes, block.qs);
  for (int j = 0; j < 32; ++j) {
    int bits = 0;
    for (int sub = 0; sub < 8; ++sub) bits |= (levels.codes[32 * sub + j] >> 4) << sub;
    block.qh[j] = byte(bits);
  }
}

// ---- symmetric types: Q3_K, Q6_K

// Codes under stored scales; `half` is added to them.
void round_symmetric(const float* x, int half, float scale, std::uint8_t* codes) {
  if (scale == 0) return;
  for (int i = 0; i < 16; ++i) codes[i] = byte(std::clamp(nearest(x[i] / scale), -half, half - 1) + half);
}

// The sub-block scale of largest magnitude gets the most negative code; the block's scale is the inverse's
// inverse.
float signed_largest(const float* scales) {
  float best = 0;
  for (int j = 0; j < 16; ++j) {
    if (std::fabs(scales[j]) > std::fabs(best)) best = scales[j];
  }
  return best;
}

float q3_scales(const Source& source, std::uint8_t* codes, std::int8_t* scale_codes) {
  float scales[16];
  std::int8_t fitted[kSuper];
  if (source.importance == nullptr) {
    for (int j = 0; j < 16; ++j)
      scales[j] = fit_symmetric_descent({source.x + 16 * j, 16}, 4, fitted + 16 * j);
    std::copy_n(fitted, kSuper, codes);
    const float largest = signed_largest(scales);
    std::fill_n(scale_codes, 16, std::int8_t{0});
    if (largest == 0) return 0;
    const float inverse = -32.0f / largest;
    for (int j = 0; j < 16; ++j) {
      scale_codes[j] = static_cast<std::int8_t>(std::clamp(nearest(inverse * scales[j]), -32, 31) + 32);
    }
    return 1.0f / inverse;
  }
  const float mean_square = 2.0f * sum_of_squares(source.x, kSuper) / as_float(kSuper);
  float weights[kSuper];
  float total[16] = {};
  importance_weights(source, 0, kSuper, mean_square, weights);
  for (int i = 0; i < kSuper; ++i) total[i / 16] += weights[i];
  kernels::fit_symmetric(4, 16, 16, source.x, weights, fitted, scales);
  std::copy_n(fitted, kSuper, codes);
  float scale = 0;
  kernels::fit_symmetric(32, 16, 1, scales, total, scale_codes, &scale);
  return scale;
}

void q3_k(const Source& source, BlockQ3K& block) {
  std::uint8_t codes[kSuper];
  std::int8_t scale_codes[16];
  store_half(block.d, q3_scales(source, codes, scale_codes));
  std::fill_n(block.scales, 12, std::uint8_t{0});
  for (int j = 0; j < 16; ++j) {
    block.scales[j % 8] = byte(block.scales[j % 8] | (scale_codes[j] & 15) << (j < 8 ? 0 : 4));
    block.scales[8 + j % 4] = byte(block.scales[8 + j % 4] | (scale_codes[j] >> 4) << (2 * (j / 4)));
  }
  const float d = load_half(block.d);
  for (int j = 0; j < 16; ++j) {
    round_symmetric(source.x + 16 * j, 4, d * as_float(unpack_q3_scale(block.scales, j)), codes + 16 * j);
  }
  pack_pairs(codes, block.qs);
  for (int j = 0; j < 32; ++j) {
    int bits = 0;
    for (int run = 0; run < 8; ++run) bits |= (codes[32 * run + j] >> 2) << run;
    block.hmask[j] = byte(bits);
  }
}

void q6_k(const Source& source, BlockQ6K& block) {
  constexpr float kTiny = 1e-15f;
  float scales[16];
  std::int8_t fitted[kSuper];
  kernels::fit_symmetric(32, 16, 16, source.x, source.importance, fitted, scales);
  const float largest = signed_largest(scales);
  if (std::fabs(largest) < kTiny) {
    block = {};
    return;
  }
  std::uint8_t codes[kSuper];
  std::copy_n(fitted, kSuper, codes);
  const float inverse = -128.0f / largest;
  store_half(block.d, 1.0f / inverse);
  const float d = load_half(block.d);
  for (int j = 0; j < 16; ++j) {
    block.scales[j] = static_cast<std::int8_t>(std::min(127, nearest(inverse * scales[j])));
    round_symmetric(source.x + 16 * j, 32, d * as_float(block.scales[j]), codes + 16 * j);
  }
  for (int i = 0; i < 64; ++i) {
    const std::uint8_t* first = codes + 128 * (i / 32) + i % 32;
    std::uint8_t* ql = block.ql + 64 * (i / 32) + i % 32;
    ql[0] = byte((first[0] & 15) | (first[64] & 15) << 4);
    ql[32] = byte((first[32] & 15) | (first[96] & 15) << 4);
    block.qh[i] = byte(first[0] >> 4 | first[32] >> 4 << 2 | first[64] >> 4 << 4 | first[96] >> 4 << 6);
  }
}

// ---- IQ4: sixteen levels, not evenly spaced

void pack_levels(const float* x, float inverse, std::uint8_t* qs) {
  for (int j = 0; j < 16; ++j) {
    const int low = nearest_level(kIq4Levels.data(), inverse * x[j]);
    const int high = nearest_level(kIq4Levels.data(), inverse * x[j + 16]);
    qs[j] = byte(low | high << 4);
  }
}

void iq4_xs(const Source& source, const float* scales, BlockIq4Xs& block) {
  float largest = 0;
  for (int j = 0; j < 8; ++j) {
    if (std::fabs(scales[j]) > std::fabs(largest)) largest = scales[j];
  }
  const float d = -largest / 32.0f;
  store_half(block.d, d);
  const float inverse = inverse_or_zero(d);
  unsigned high = 0;
  std::fill_n(block.scales_l, 4, std::uint8_t{0});
  for (int j = 0; j < 8; ++j) {
    const int code = std::clamp(nearest(inverse * scales[j]), -32, 31);
    pack_levels(source.x + 32 * j, inverse_or_zero(d * as_float(code)), block.qs + 16 * j);
    block.scales_l[j / 2] = byte(block.scales_l[j / 2] | ((code + 32) & 15) << (4 * (j % 2)));
    high |= static_cast<unsigned>((code + 32) >> 4) << (2 * j);
  }
  block.scales_h[0] = byte(static_cast<int>(high & 0xffu));
  block.scales_h[1] = byte(static_cast<int>(high >> 8));
}

// Scales of all blocks of 32 in a row; the mean square of `span` values enters the weights.
std::vector<float> iq4_scales(const float* row, std::int64_t count, const float* importance, int span) {
  std::vector<float> weights(static_cast<std::size_t>(count));
  for (std::int64_t first = 0; first < count; first += span) {
    const Source source{row + first, importance == nullptr ? nullptr : importance + first};
    float* out = weights.data() + first;
    if (importance != nullptr) {
      importance_weights(source, 0, span, sum_of_squares(source.x, span) * (2.0f / as_float(span)), out);
    } else {
      for (int i = 0; i < span; ++i) out[i] = source.x[i] * source.x[i];
    }
  }
  std::vector<float> scales(static_cast<std::size_t>(count / 32));
  kernels::fit_levels(kIq4Levels.data(), count / 32, row, weights.data(), scales.data());
  return scales;
}

}  // namespace

void encode_iq4_nl(const float* row, std::int64_t count, const float* importance, std::byte* blocks) {
  const std::vector<float> scales = iq4_scales(row, count, importance, 32);
  auto* block = reinterpret_cast<BlockIq4Nl*>(blocks);
  for (std::int64_t i = 0; i < count / 32; ++i) {
    const float scale = scales[static_cast<std::size_t>(i)];
    store_half(block[i].d, scale);
    pack_levels(row + 32 * i, inverse_or_zero(scale), block[i].qs);
  }
}

void encode_iq4_xs(const float* row, std::int64_t count, const float* importance, std::byte* blocks) {
  const std::vector<float> scales = iq4_scales(row, count, importance, kSuper);
  auto* block = reinterpret_cast<BlockIq4Xs*>(blocks);
  for (std::int64_t i = 0; i < count / kSuper; ++i) {
    iq4_xs({row + i * kSuper, nullptr}, scales.data() + 8 * i, block[i]);
  }
}

#define NIBBLE_GGUF_ENCODER(name, Block)                                                                 \
  void encode_##name(const float* row, std::int64_t count, const float* importance, std::byte* blocks) { \
    encode_superblocks<Block, name>(row, count, importance, blocks);                                     \
  }
NIBBLE_GGUF_ENCODER(q2_k, BlockQ2K)
NIBBLE_GGUF_ENCODER(q3_k, BlockQ3K)
NIBBLE_GGUF_ENCODER(q4_k, BlockQ4K)
NIBBLE_GGUF_ENCODER(q5_k, BlockQ5K)
NIBBLE_GGUF_ENCODER(q6_k, BlockQ6K)
#undef NIBBLE_GGUF_ENCODER

}  // namespace nibble::gguf
