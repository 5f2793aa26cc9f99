// SPDX-License-Identifier: Apache-2.0
// Quantizers of the simple GGUF types and the fp4 and ternary ones.
#include "codec/gguf_encode.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "codec/gguf_blocks.h"
#include "codec/gguf_grids.h"
#include "kernels/gguf_fit.h"

namespace nibble::gguf {
namespace {

constexpr int kBlock = 32;

// Truncation of what may lie out of range (a scale below the smallest half has an infinite inverse): 0 then,
// as the low byte of x86's "integer indefinite" is.
int truncate(float value) {
  return std::fabs(value) < 2147483648.0f ? static_cast<int>(value) : 0;
}

// Half away from zero, with the same answer out of range.
int round_away(float value) {
  return truncate(std::round(value));
}

struct Extremes {
  float min, max;
};

Extremes extremes(const float* x) {
  const auto [low, high] = std::minmax_element(x, x + kBlock);
  return {*low, *high};
}

float largest_magnitude(const float* x, int count) {
  float best = 0;
  for (int i = 0; i < count; ++i) best = std::max(best, std::fabs(x[i]));
  return best;
}

// The first value of largest magnitude, with its sign.
float signed_extreme(const float* x) {
  float best = 0;
  for (int i = 0; i < kBlock; ++i) {
    if (std::fabs(x[i]) > std::fabs(best)) best = x[i];
  }
  return best;
}

float row_mean_square(const float* row, std::int64_t count) {
  float sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += row[i] * row[i];
  return sum / static_cast<float>(count);
}

// Weights of a row under an importance: its mean square keeps small values from being ignored.
std::vector<float> row_weights(const float* row, std::int64_t count, const float* importance) {
  const float mean_square = row_mean_square(row, count);
  std::vector<float> out;
  for (std::int64_t i = 0; i < count; ++i)
    out.push_back(importance[i] * std::sqrt(mean_square + row[i] * row[i]));
  return out;
}

void pack_halves(const std::uint8_t* codes, std::uint8_t* qs) {
  for (int j = 0; j < 16; ++j) qs[j] = byte((codes[j] & 15) | ((codes[j + 16] & 15) << 4));
}

void pack_fifth_bits(const std::uint8_t* codes, std::uint8_t* qh) {
  for (int b = 0; b < 4; ++b) {
    int bits = 0;
    for (int j = 0; j < 8; ++j) bits |= ((codes[8 * b + j] >> 4) & 1) << j;
    qh[b] = byte(bits);
  }
}

template <class Block>
Block* blocks_of(std::byte* bytes) {
  return reinterpret_cast<Block*>(bytes);
}

// Codes and scale from -max / half.
template <class Block>
void symmetric_codes(const float* x, int half, Block& block, std::uint8_t* codes) {
  const float d = signed_extreme(x) / as_float(-half);
  const float inverse = inverse_or_zero(d);
  store_half(block.d, d);
  for (int i = 0; i < kBlock; ++i) {
    const int code = truncate(x[i] * inverse + (as_float(half) + 0.5f));
    codes[i] = byte(std::min(2 * half - 1, code));
  }
}

// Codes, scale and min from the extremes.
template <class Block>
void min_codes(const float* x, int top, Block& block, std::uint8_t* codes) {
  const Extremes range = extremes(x);
  const float d = (range.max - range.min) / as_float(top);
  const float inverse = inverse_or_zero(d);
  store_half(block.d, d);
  store_half(block.m, range.min);
  for (int i = 0; i < kBlock; ++i)
    codes[i] = byte(std::min(top, truncate((x[i] - range.min) * inverse + 0.5f)));
}

void pack_codes(const std::uint8_t* codes, BlockQ4_0& block) {
  pack_halves(codes, block.qs);
}
void pack_codes(const std::uint8_t* codes, BlockQ4_1& block) {
  pack_halves(codes, block.qs);
}
void pack_codes(const std::uint8_t* codes, BlockQ5_0& block) {
  pack_halves(codes, block.qs);
  pack_fifth_bits(codes, block.qh);
}
void pack_codes(const std::uint8_t* codes, BlockQ5_1& block) {
  pack_halves(codes, block.qs);
  pack_fifth_bits(codes, block.qh);
}

template <class Block>
void encode_symmetric(const float* row, std::int64_t count, int half, const float* importance,
                      std::byte* bytes) {
  Block* blocks = blocks_of<Block>(bytes);
  const std::int64_t size = count / kBlock;
  if (importance == nullptr) {
    std::uint8_t codes[kBlock];
    for (std::int64_t i = 0; i < size; ++i) {
      symmetric_codes(row + i * kBlock, half, blocks[i], codes);
      pack_codes(codes, blocks[i]);
    }
    return;
  }
  const std::vector<float> weights = row_weights(row, count, importance);
  std::vector<std::int8_t> codes(weights.size());
  std::vector<float> scales(static_cast<std::size_t>(size));
  kernels::fit_symmetric(half, kBlock, size, row, weights.data(), codes.data(), scales.data());
  for (std::int64_t i = 0; i < size; ++i) {
    store_half(blocks[i].d, scales[static_cast<std::size_t>(i)]);
    pack_codes(reinterpret_cast<const std::uint8_t*>(codes.data()) + i * kBlock, blocks[i]);
  }
}

template <class Block>
void encode_min(const float* row, std::int64_t count, int top, const float* importance, std::byte* bytes) {
  Block* blocks = blocks_of<Block>(bytes);
  const std::int64_t size = count / kBlock;
  if (importance == nullptr) {
    std::uint8_t codes[kBlock];
    for (std::int64_t i = 0; i < size; ++i) {
      min_codes(row + i * kBlock, top, blocks[i], codes);
      pack_codes(codes, blocks[i]);
    }
    return;
  }
  const std::vector<float> weights = row_weights(row, count, importance);
  std::vector<std::uint8_t> codes(weights.size());
  std::vector<float> scales(static_cast<std::size_t>(size));
  std::vector<float> mins(scales.size());
  const kernels::MinSearch search{top, -0.9f, 0.05f, 36, false};
  kernels::fit_scale_min(search, kBlock, size, row, weights.data(), codes.data(), scales.data(), mins.data());
  for (std::int64_t i = 0; i < size; ++i) {
    store_half(blocks[i].d, scales[static_cast<std::size_t>(i)]);
    store_half(blocks[i].m, -mins[static_cast<std::size_t>(i)]);
    pack_codes(codes.data() + i * kBlock, blocks[i]);
  }
}

std::uint8_t nearest_fp4(float x, float half_scale) {
  int best = 0;
  float best_error = std::fabs(as_float(kFp4Levels[0]) * half_scale - x);
  for (int i = 1; i < 16; ++i) {
    const float error = std::fabs(as_float(kFp4Levels[static_cast<std::size_t>(i)]) * half_scale - x);
    if (error < best_error) {
      best = i;
      best_error = error;
    }
  }
  return byte(best);
}

// Unsigned E4M3 with ties away from zero, and exponents up to 14 only: ggml never writes codes 0x78 to 0x7d.
std::uint8_t ue4m3_from(float value) {
  if (!(value > 0)) return 0;
  const auto bits = std::bit_cast<std::uint32_t>(std::min(value, 448.0f));
  const int exponent = static_cast<int>(bits >> 23) - 127 + 7;
  if (exponent <= 0) return byte(std::min(7, static_cast<int>(value * 512.0f + 0.5f)));
  const auto code = static_cast<int>((bits >> 20) & 7u) + static_cast<int>((bits >> 19) & 1u) + 8 * exponent;
  return byte(code >= 15 * 8 ? 0x7e : code);
}

// Five ternary digits (first one on top) as a fraction of 256, rounded up.
std::uint8_t pack_ternary(const int* digits) {
  int value = 0;
  for (int i = 0; i < 5; ++i) value = (3 * value + digits[i]) & 0xff;
  return byte((value * 256 + 242) / 243);
}

int trit(float value, float inverse) {
  return round_away(value * inverse) + 1;
}

}  // namespace

void encode_q4_0(const float* row, std::int64_t count, const float* importance, std::byte* blocks) {
  encode_symmetric<BlockQ4_0>(row, count, 8, importance, blocks);
}
void encode_q5_0(const float* row, std::int64_t count, const float* importance, std::byte* blocks) {
  encode_symmetric<BlockQ5_0>(row, count, 16, importance, blocks);
}
void encode_q4_1(const float* row, std::int64_t count, const float* importance, std::byte* blocks) {
  encode_min<BlockQ4_1>(row, count, 15, importance, blocks);
}
void encode_q5_1(const float* row, std::int64_t count, const float* importance, std::byte* blocks) {
  encode_min<BlockQ5_1>(row, count, 31, importance, blocks);
}

void encode_q8_0(const float* row, std::int64_t count, const float*, std::byte* blocks) {
  for (std::int64_t i = 0; i < count / kBlock; ++i) {
    BlockQ8_0& block = blocks_of<BlockQ8_0>(blocks)[i];
    const float* x = row + i * kBlock;
    const float d = largest_magnitude(x, kBlock) / 127.0f;
    const float inverse = inverse_or_zero(d);
    store_half(block.d, d);
    for (int j = 0; j < kBlock; ++j) block.qs[j] = static_cast<std::int8_t>(round_away(x[j] * inverse));
  }
}

void encode_mxfp4(const float* row, std::int64_t count, const float*, std::byte* blocks) {
  for (std::int64_t i = 0; i < count / kBlock; ++i) {
    BlockMxfp4& block = blocks_of<BlockMxfp4>(blocks)[i];
    const float* x = row + i * kBlock;
    const float largest = largest_magnitude(x, kBlock);
    const float exponent = largest > 0 ? std::floor(std::log2(largest)) - 2.0f + 127.0f : 0.0f;
    block.e = byte(static_cast<int>(std::clamp(exponent, 0.0f, 254.0f)));
    const float half_scale = e8m0_half(block.e);
    std::uint8_t codes[kBlock];
    for (int j = 0; j < kBlock; ++j) codes[j] = nearest_fp4(x[j], half_scale);
    pack_halves(codes, block.qs);
  }
}

void encode_nvfp4(const float* row, std::int64_t count, const float*, std::byte* blocks) {
  constexpr int kGroup = 16;
  for (std::int64_t g = 0; g < count / kGroup; ++g) {
    BlockNvfp4& block = blocks_of<BlockNvfp4>(blocks)[g / 4];
    const float* x = row + g * kGroup;
    const std::uint8_t scale = ue4m3_from(largest_magnitude(x, kGroup) / 6.0f);
    block.d[g % 4] = scale;
    const float half_scale = scale == 0x7f ? 0.0f : 0.5f * f8e4m3_to_f32(scale);
    std::uint8_t* qs = block.qs + 8 * (g % 4);
    for (int j = 0; j < 8; ++j)
      qs[j] = byte(nearest_fp4(x[j], half_scale) | (nearest_fp4(x[j + 8], half_scale) << 4));
  }
}

void encode_tq1_0(const float* row, std::int64_t count, const float*, std::byte* blocks) {
  for (std::int64_t i = 0; i < count / kSuper; ++i) {
    BlockTq1& block = blocks_of<BlockTq1>(blocks)[i];
    const float* x = row + i * kSuper;
    const float d = largest_magnitude(x, kSuper);
    const float inverse = inverse_or_zero(d);
    store_half(block.d, d);
    const auto put = [&](std::uint8_t& out, const float* first, int stride, int digits) {
      int values[5] = {};
      for (int n = 0; n < digits; ++n) values[n] = trit(first[n * stride], inverse);
      out = pack_ternary(values);
    };
    for (int j = 0; j < 32; ++j) put(block.qs[j], x + j, 32, 5);
    for (int j = 0; j < 16; ++j) put(block.qs[32 + j], x + 160 + j, 16, 5);
    for (int j = 0; j < 4; ++j) put(block.qh[j], x + 240 + j, 4, 4);
  }
}

void encode_tq2_0(const float* row, std::int64_t count, const float*, std::byte* blocks) {
  for (std::int64_t i = 0; i < count / kSuper; ++i) {
    BlockTq2& block = blocks_of<BlockTq2>(blocks)[i];
    const float* x = row + i * kSuper;
    const float d = largest_magnitude(x, kSuper);
    const float inverse = inverse_or_zero(d);
    store_half(block.d, d);
    for (int j = 0; j < 64; ++j) {
      const float* first = x + 128 * (j / 32) + j % 32;
      int bits = 0;
      for (int n = 0; n < 4; ++n) bits |= (trit(first[32 * n], inverse) & 3) << (2 * n);
      block.qs[j] = byte(bits);
    }
  }
}

}  // namespace nibble::gguf
