// SPDX-License-Identifier: Apache-2.0
// Scale searches behind GGUF's quantizers (the methods of llama.cpp's ggml-quants.c; reference algorithms.md,
// A1). Sums run in fp32 in index order and every product is written in the order ggml evaluates it, because
// the bytes of a file depend on both.
#pragma once

#include <cstdint>
#include <span>

namespace nibble::gguf {

// Half to even: adding 1.5 * 2^23 leaves no bits below one. What lies beyond +-2^22 is taken as +-2^22, NaN as -2^22.
inline int nearest(float value) {
  constexpr float kBound = 4194303.0f;
  value = value > -kBound ? value : -kBound;
  value = value < kBound ? value : kBound;
  return static_cast<int>((value + 12582912.0f) - 12582912.0f);
}

struct ScaleAndMin {
  float scale;
  float min;  // what is subtracted: values are scale * code - min, min >= 0
};

struct MinSearch {
  int top;      // largest code
  float first;  // candidate i has the inverse scale (first + i * step + top) / (max - min)
  float step;
  int steps;      // candidates 0 to steps
  bool absolute;  // error: |difference| instead of its square
};

// Codes 0 to top with a scale and a min: starts from min-max, then for each candidate rounds, fits scale and
// min by weighted least squares (min not positive), and keeps the smallest weighted error.
ScaleAndMin fit_scale_min(const MinSearch& search, std::span<const float> x, std::span<const float> weights,
                          std::uint8_t* codes);

// Codes -half to half - 1, stored with `half` added: nineteen inverse scales around -half / (value of largest
// magnitude); each least-squares scale maximises (sum w x l)^2 / sum w l^2. `weights` null means x^2.
float fit_symmetric(std::span<const float> x, int half, const float* weights, std::int8_t* codes);

// The same range of codes by coordinate descent from plain rounding, weights x^2.
float fit_symmetric_descent(std::span<const float> x, int half, std::int8_t* codes);

// Codes 0 to top for values that are not negative: nine inverse scales, then coordinate descent.
float fit_positive(std::span<const float> x, int top, std::span<const float> weights, std::uint8_t* codes);

// Index of the level nearest to x among 16 rising ones; a tie goes to the higher.
int nearest_level(const std::int8_t* levels, float x);

}  // namespace nibble::gguf
