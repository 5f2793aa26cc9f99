// SPDX-License-Identifier: Apache-2.0
// Scale searches behind GGUF's quantizers (the methods of llama.cpp's ggml-quants.c). Sums run in fp32 in
// index order and every product is written in the order ggml evaluates it, because the bytes of a file depend
// on both.
#pragma once

#include <cstdint>
#include <span>

namespace nibble::gguf {

// Half to even: adding 1.5 * 2^23 leaves no bits below one. What lies beyond +-2^22 is taken as +-2^22, NaN
// as -2^22.
inline int nearest(float value) {
  constexpr float kBound = 4194303.0f;
  value = value > -kBound ? value : -kBound;
  value = value < kBound ? value : kBound;
  return static_cast<int>((value + 12582912.0f) - 12582912.0f);
}

// Codes -half to half - 1, stored with `half` added, by coordinate descent from plain rounding, weights x^2.
float fit_symmetric_descent(std::span<const float> x, int half, std::int8_t* codes);

// Codes 0 to top for values that are not negative: nine inverse scales, then coordinate descent.
float fit_positive(std::span<const float> x, int top, std::span<const float> weights, std::uint8_t* codes);

// Index of the level nearest to x among 16 rising ones; a tie goes to the higher.
int nearest_level(const std::int8_t* levels, float x);

}  // namespace nibble::gguf
