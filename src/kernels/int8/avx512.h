// SPDX-License-Identifier: Apache-2.0
// Integer tiles for AVX-512, with or without VNNI: the including unit names the dot step first.
//   Step8::add(sum, w, x): sum + the products of a quad of 8-bit codes; Step8::kWide: see table.h; Step4
//   likewise.
#pragma once

#include <immintrin.h>

#include <utility>

#include "kernels/int8/table.h"

namespace nibble::kernels::int8 {
namespace {

template <int rows, int strips>
[[gnu::always_inline]] inline void finish(const Tile& tile, const __m512i (&sum)[rows][strips]) {
#pragma GCC unroll 2
  for (int s = 0; s < strips; ++s) {
    const __m512 scale = _mm512_loadu_ps(tile.scales + s * kLanes);
    const __m512i zero = _mm512_loadu_si512(tile.zeros + s * kLanes);
    const int left = tile.cols - s * kLanes;
    const auto mask = static_cast<__mmask16>(left >= kLanes ? 0xffffu : left > 0 ? (1u << left) - 1u : 0u);
#pragma GCC unroll 14
    for (int r = 0; r < rows; ++r) {
      const __m512i dot =
          _mm512_sub_epi32(sum[r][s], _mm512_mullo_epi32(zero, _mm512_set1_epi32(tile.x_sum[r])));
      __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), scale);
      float* y = tile.y + r * tile.ldy + s * kLanes;
      if (tile.accumulate) value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), value);
      _mm512_mask_storeu_ps(y, mask, value);
    }
  }
}

template <class Step, int rows, int strips>
void run(const Tile& tile) {
  __m512i sum[rows][strips];
#pragma GCC unroll 14
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int s = 0; s < strips; ++s) sum[r][s] = _mm512_setzero_si512();
  }
  constexpr int kWords = Step::kWide ? 2 : 1;
  const std::int32_t* x = tile.x;
  const std::uint32_t* words = tile.words;
  for (std::int64_t q = 0; q < tile.quads; q += Step::kQuads, words += kLanes) {
    __m512i w[strips];
#pragma GCC unroll 2
    for (int s = 0; s < strips; ++s) w[s] = _mm512_loadu_si512(words + s * tile.strip_stride);
#pragma GCC unroll 2
    for (int part = 0; part < Step::kQuads; ++part, x += rows * kWords) {
      typename Step::Weights prepared[strips];
#pragma GCC unroll 2
      for (int s = 0; s < strips; ++s) prepared[s] = Step::prepare(w[s], part);
#pragma GCC unroll 14
      for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
        for (int s = 0; s < strips; ++s) sum[r][s] = Step::add(sum[r][s], prepared[s], x + r * kWords);
      }
    }
  }
  finish<rows, strips>(tile, sum);
}

// The nibbles of one quad as bytes.
[[gnu::always_inline]] inline __m512i nibbles(__m512i w, int part) {
  return _mm512_and_si512(part == 0 ? w : _mm512_srli_epi16(w, 4), _mm512_set1_epi8(15));
}

// Tiles of 1 to n rows and 1 or 2 strips.
template <class Step, int... r>
constexpr Format make_format(std::integer_sequence<int, r...>) {
  return {Step::kWide, {{run<Step, r + 1, 1>, run<Step, r + 1, 2>}...}};
}

}  // namespace
}  // namespace nibble::kernels::int8
