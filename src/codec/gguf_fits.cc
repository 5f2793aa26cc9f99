// SPDX-License-Identifier: Apache-2.0
#include "codec/gguf_fits.h"

#include <algorithm>
#include <cmath>

#include "codec/gguf_blocks.h"

namespace nibble::gguf {
namespace {

constexpr float kTiny = 1e-15f;  // a block below it is all zero

// The value of largest magnitude; the first one wins.
float extreme(std::span<const float> x) {
  float best = 0;
  float magnitude = 0;
  for (const float value : x) {
    if (std::fabs(value) > magnitude) {
      magnitude = std::fabs(value);
      best = value;
    }
  }
  return best;
}

struct Moments {
  float xl = 0;  // sum w x l
  float ll = 0;  // sum w l l
};

Moments symmetric_moments(std::span<const float> x, int half, float inverse) {
  Moments sum;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float l = as_float(std::clamp(nearest(inverse * x[i]), -half, half - 1));
    const float w = x[i] * x[i];
    sum.xl += w * x[i] * l;
    sum.ll += w * l * l;
  }
  return sum;
}

std::uint8_t code_of(float value, int top) {
  return static_cast<std::uint8_t>(std::clamp(nearest(value), 0, top));
}

}  // namespace

float fit_symmetric_descent(std::span<const float> x, int half, std::int8_t* codes) {
  const float max = extreme(x);
  if (std::fabs(max) < kTiny) {
    std::fill_n(codes, x.size(), std::int8_t{0});
    return 0.0f;
  }
  const float inverse = as_float(-half) / max;
  for (std::size_t i = 0; i < x.size(); ++i) {
    codes[i] = static_cast<std::int8_t>(std::clamp(nearest(inverse * x[i]), -half, half - 1));
  }
  Moments sum = symmetric_moments(x, half, inverse);
  for (int sweep = 0; sweep < 5; ++sweep) {
    bool changed = false;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float w = x[i] * x[i];
      const float l = as_float(codes[i]);
      float xl = sum.xl - w * x[i] * l;
      if (!(xl > 0)) continue;
      float ll = sum.ll - w * l * l;
      const int moved = std::clamp(nearest(x[i] * ll / xl), -half, half - 1);
      if (moved == codes[i]) continue;
      xl += w * x[i] * as_float(moved);
      ll += w * as_float(moved) * as_float(moved);
      if (!(ll > 0 && xl * xl * sum.ll > sum.xl * sum.xl * ll)) continue;
      codes[i] = static_cast<std::int8_t>(moved);
      sum = {xl, ll};
      changed = true;
    }
    if (!changed) break;
  }
  for (std::size_t i = 0; i < x.size(); ++i) codes[i] = static_cast<std::int8_t>(codes[i] + half);
  return sum.ll > 0 ? sum.xl / sum.ll : 0.0f;
}

namespace {

float positive_error(std::span<const float> x, int top, std::span<const float> weights, float inverse) {
  const float scale = 1.0f / inverse;
  float sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float difference = x[i] - scale * as_float(std::min(nearest(inverse * x[i]), top));
    sum += weights[i] * difference * difference;
  }
  return sum;
}

}  // namespace

float fit_positive(std::span<const float> x, int top, std::span<const float> weights, std::uint8_t* codes) {
  const float max = std::max(0.0f, *std::max_element(x.begin(), x.end()));
  if (max < kTiny) {
    std::fill_n(codes, x.size(), std::uint8_t{0});
    return 0.0f;
  }
  float inverse = as_float(top) / max;
  float best = positive_error(x, top, weights, inverse);
  for (int step = -4; step <= 4; ++step) {
    if (step == 0) continue;
    const float candidate = (0.1f * as_float(step) + as_float(top)) / max;
    const float error = positive_error(x, top, weights, candidate);
    if (!(error < best)) continue;
    best = error;
    inverse = candidate;
  }
  Moments sum;
  for (std::size_t i = 0; i < x.size(); ++i) {
    codes[i] = code_of(inverse * x[i], top);
    const float l = as_float(codes[i]);
    sum.xl += weights[i] * x[i] * l;
    sum.ll += weights[i] * l * l;
  }
  for (int sweep = 0; sweep < 5; ++sweep) {
    bool changed = false;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float l = as_float(codes[i]);
      float xl = sum.xl - weights[i] * x[i] * l;
      float ll = sum.ll - weights[i] * l * l;
      if (!(xl > 0 && ll > 0)) continue;
      const int moved = std::clamp(nearest(x[i] * ll / xl), 0, top);
      if (moved == codes[i]) continue;
      xl += weights[i] * x[i] * as_float(moved);
      ll += weights[i] * as_float(moved) * as_float(moved);
      if (!(xl * xl * sum.ll > sum.xl * sum.xl * ll)) continue;
      codes[i] = static_cast<std::uint8_t>(moved);
      sum = {xl, ll};
      changed = true;
    }
    if (!changed) break;
  }
  return sum.ll > 0 ? sum.xl / sum.ll : 0.0f;
}

int nearest_level(const std::int8_t* levels, float x) {
  int index = 0;
  while (index < 15 && x + x >= as_float(levels[index] + levels[index + 1])) ++index;
  return index;
}

}  // namespace nibble::gguf
