// SPDX-License-Identifier: Apache-2.0
// Decoding of packed strips over the vector vocabulary; each level's unit includes it after its simd header.
#pragma once

#include <cstdint>

#include "kernels/gemm/tile.h"
#include "kernels/packed/table.h"

namespace nibble::kernels::packed {
namespace {

NIBBLE_SIMD I load_words(const std::uint32_t* p) {
  return load_i32(reinterpret_cast<const std::int32_t*>(p));
}

// Widths of the planes of a code, highest first; 0: none.
template <int bits>
struct Planes {
  static constexpr int kFirst = bits >= 8 ? 8 : bits >= 4 ? 4 : bits >= 2 ? 2 : 1;
  static constexpr int kRest = bits - kFirst;
  static constexpr int kSecond = kRest >= 2 ? 2 : kRest;
  static constexpr int kThird = kRest - kSecond;
};

// Lane i: the plane's bits of column t. `word` is kept from one column to the next; `mask` off leaves higher
// bits in.
template <int width, int t>
NIBBLE_SIMD I plane_bits(const std::uint32_t* vectors, I& word, bool mask) {
  constexpr int kPerWord = 32 / width;
  if constexpr (t % kPerWord == 0) word = load_words(vectors + t / kPerWord * kLanes);
  constexpr int kShift = t % kPerWord * width;
  I x = word;
  if constexpr (kShift != 0) x = shift_right<kShift>(x);
  if (!mask || kShift + width == 32) return x;
  return x & broadcast(static_cast<std::int32_t>((1u << width) - 1u));
}

// Walks over the 32 columns of a chunk in order.
template <int bits>
class Walker {
 public:
  NIBBLE_SIMD explicit Walker(const std::uint32_t* chunk) : chunk_(chunk) {}

  template <int t>
  NIBBLE_SIMD I code(bool mask = true) {
    using P = Planes<bits>;
    I x = plane_bits<P::kFirst, t>(chunk_, word_[0], mask);
    if constexpr (P::kSecond != 0) {
      x = shift_left<P::kSecond>(x) | plane_bits<P::kSecond, t>(chunk_ + P::kFirst * kLanes, word_[1], true);
    }
    if constexpr (P::kThird != 0) {
      x = shift_left<P::kThird>(x) |
          plane_bits<P::kThird, t>(chunk_ + (P::kFirst + P::kSecond) * kLanes, word_[2], true);
    }
    return x;
  }

 private:
  const std::uint32_t* chunk_;
  I word_[3];
};

// Number formats: bits, how a format prepares itself for a strip, and the value of a code before zero and
// scale.
template <int bits_>
struct Integer {
  static constexpr int kBits = bits_;
  static constexpr bool kHasZero = true;
  static constexpr bool kLookup = kFastLookup && bits_ == 4;
  Table table;
  NIBBLE_SIMD explicit Integer(const CodeStrip&) {
    alignas(64) constexpr float kCounts[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    if constexpr (kLookup) table = load_table(kCounts);
  }
  template <int t>
  NIBBLE_SIMD F value(Walker<bits_>& walker) const {
    if constexpr (kLookup) return lookup(table, walker.template code<t>(false));
    return to_float(walker.template code<t>());
  }
};

struct TableCode {
  static constexpr int kBits = 4;
  static constexpr bool kHasZero = false;
  Table table;
  NIBBLE_SIMD explicit TableCode(const CodeStrip& strip) : table(load_table(strip.table)) {}
  template <int t>
  NIBBLE_SIMD F value(Walker<4>& walker) const {
    return lookup(table, walker.template code<t>(false));
  }
};

// As F16 bits an E4M3 code is 2^-8 times its value; NaN is set by hand.
struct Float8 {
  static constexpr int kBits = 8;
  static constexpr bool kHasZero = false;
  NIBBLE_SIMD explicit Float8(const CodeStrip&) {}
  template <int t>
  NIBBLE_SIMD F value(Walker<8>& walker) const {
    const I x = walker.template code<t>();
    const I magnitude = x & broadcast(0x7f);
    const F v =
        half_to_float(shift_left<8>(x & broadcast(0x80)) | shift_left<7>(magnitude)) * broadcast(256.0f);
    return from_bits(select(magnitude > broadcast(0x7e), broadcast(0x7fc00000), bits(v)));
  }
};

struct Scale {
  F scale, zero;
};

template <class Format>
NIBBLE_SIMD Scale load_scale(const CodeStrip& strip, std::int64_t group) {
  Scale out{broadcast(0.0f), broadcast(static_cast<float>(1 << (Format::kBits - 1)))};
  const std::int64_t at = group * kLanes;
  if (strip.scale_type == ScaleType::kF32) {
    out.scale = load(static_cast<const float*>(strip.scales) + at);
  } else {
    const I code = load_u16(static_cast<const std::uint16_t*>(strip.scales) + at);
    out.scale = strip.scale_type == ScaleType::kBf16 ? from_bits(shift_left<16>(code)) : half_to_float(code);
  }
  if (strip.zeros != nullptr) out.zero = to_float(load_u8(strip.zeros + at));
  return out;
}

template <class Format>
NIBBLE_SIMD F finish(F value, const Scale& s) {
  if constexpr (Format::kHasZero) value = value - s.zero;
  return value * s.scale;
}

// step.operator()<t>() for t = first .. 31.
template <int first, class Step>
NIBBLE_SIMD void for_columns(const Step& step) {
  if constexpr (first < kChunk) {
    step.template operator()<first>();
    for_columns<first + 1>(step);
  }
}

// One chunk of one strip, whatever its groups are: values of columns [0, count) to out[t][16].
template <class Format>
[[gnu::noinline]] void fill_chunk(const CodeStrip& strip, const Format& format, std::int64_t column,
                                  std::int64_t count, float* out) {
  alignas(64) float raw[kChunk * kLanes];
  Walker<Format::kBits> walker(strip.words + column / kChunk * (Format::kBits * kLanes));
  for_columns<0>([&]<int t>() { store(raw + t * kLanes, format.template value<t>(walker)); });
  std::int64_t group = -1;
  Scale s{};
  for (std::int64_t t = 0; t < count; ++t) {
    if ((column + t) / strip.group_size != group) {
      group = (column + t) / strip.group_size;
      s = load_scale<Format>(strip, group);
    }
    store(out + t * kLanes, finish<Format>(load(raw + t * kLanes), s));
  }
}

// A whole chunk inside one group.
NIBBLE_SIMD bool is_plain(const CodeStrip& strip, std::int64_t column, std::int64_t count) {
  return count == kChunk && column / strip.group_size == (column + kChunk - 1) / strip.group_size;
}

template <class Format>
void fill(const CodeStrip& strip, std::int64_t first, std::int64_t depth, float* out) {
  const Format format(strip);
  for (std::int64_t k = 0; k < depth; k += kChunk) {
    const std::int64_t column = first + k, count = depth - k < kChunk ? depth - k : kChunk;
    float* to = out + k * kLanes;
    if (!is_plain(strip, column, count)) {
      fill_chunk(strip, format, column, count, to);
      continue;
    }
    const Scale s = load_scale<Format>(strip, column / strip.group_size);
    Walker<Format::kBits> walker(strip.words + column / kChunk * (Format::kBits * kLanes));
    for_columns<0>(
        [&]<int t>() { store(to + t * kLanes, finish<Format>(format.template value<t>(walker), s)); });
  }
}

// sum[r][s] = fma over the columns of one chunk of a pair of strips (two, so that a single token has two
// chains).
template <class Format, int tokens>
NIBBLE_SIMD void dot_chunk(const CodeStrip* strip, const Format& format, std::int64_t column,
                           std::int64_t count, const float* x, F (&sum)[tokens][2]) {
  if (!is_plain(strip[0], column, count)) {
    alignas(64) float values[kChunk * kLanes];
    for (int s = 0; s < 2; ++s) {
      fill_chunk(strip[s], format, column, count, values);
      for (std::int64_t t = 0; t < count; ++t) {
        const F w = load(values + t * kLanes);
        for (int r = 0; r < tokens; ++r) sum[r][s] = fma(broadcast(x[t * tokens + r]), w, sum[r][s]);
      }
    }
    return;
  }
  const std::int64_t group = column / strip[0].group_size, words = column / kChunk * (Format::kBits * kLanes);
  const Scale s0 = load_scale<Format>(strip[0], group), s1 = load_scale<Format>(strip[1], group);
  Walker<Format::kBits> walker0(strip[0].words + words), walker1(strip[1].words + words);
  for_columns<0>([&]<int t>() {
    const F w0 = finish<Format>(format.template value<t>(walker0), s0);
    const F w1 = finish<Format>(format.template value<t>(walker1), s1);
#pragma GCC unroll 2
    for (int r = 0; r < tokens; ++r) {
      const F at = broadcast(x[t * tokens + r]);
      sum[r][0] = fma(at, w0, sum[r][0]);
      sum[r][1] = fma(at, w1, sum[r][1]);
    }
  });
}

template <class Format, int tokens>
void dot(const CodeStrip* strip, std::int64_t depth, const float* x, float* c, std::int64_t ldc, int cols,
         bool accumulate) {
  const Format format(strip[0]);
  for (std::int64_t first = 0; first < depth; first += gemm::kDepth) {
    const std::int64_t end = first + gemm::kDepth < depth ? first + gemm::kDepth : depth;
    F sum[tokens][2];
    for (auto& row : sum) row[0] = row[1] = broadcast(0.0f);
    for (std::int64_t k = first; k < end; k += kChunk) {
      const std::int64_t count = end - k < kChunk ? end - k : kChunk;
      dot_chunk<Format, tokens>(strip, format, k, count, x + k * tokens, sum);
    }
    for (int s = 0; s < 2; ++s) {
      const int left = cols - s * kLanes, count = left < 0 ? 0 : left < kLanes ? left : kLanes;
      for (int r = 0; r < tokens; ++r) {
        float* to = c + r * ldc + s * kLanes;
        F value = sum[r][s];
        if (accumulate || first > 0) value = load(to, count, broadcast(0.0f)) + value;
        store(to, count, value);
      }
    }
  }
}

void fill_f16(const std::uint16_t* codes, std::int64_t depth, float* out) {
  for (std::int64_t i = 0; i < depth * kLanes; i += kLanes)
    store(out + i, half_to_float(load_u16(codes + i)));
}

void fill_bf16(const std::uint16_t* codes, std::int64_t depth, float* out) {
  for (std::int64_t i = 0; i < depth * kLanes; i += kLanes) {
    store(out + i, from_bits(shift_left<16>(load_u16(codes + i))));
  }
}

template <class Format>
constexpr CodeKernels make_code_kernels() {
  return {fill<Format>, {dot<Format, 1>, dot<Format, 2>}};
}

constexpr Kernels make_kernels() {
  return {{{},
           {},
           make_code_kernels<Integer<2>>(),
           make_code_kernels<Integer<3>>(),
           make_code_kernels<Integer<4>>(),
           make_code_kernels<Integer<5>>(),
           make_code_kernels<Integer<6>>(),
           make_code_kernels<Integer<7>>(),
           make_code_kernels<Integer<8>>()},
          make_code_kernels<TableCode>(),
          make_code_kernels<Float8>(),
          fill_f16,
          fill_bf16};
}

}  // namespace
}  // namespace nibble::kernels::packed
