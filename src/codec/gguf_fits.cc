// SPDX-License-Identifier: Apache-2.0
#include "codec/gguf_fits.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace nibble::gguf {
namespace {

constexpr float kTiny = 1e-15f;  // a block below it is all zero
constexpr int kMost = 32;        // values of a sub-block

float as_float(int value) {
  return static_cast<float>(value);
}

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

Moments symmetric_moments(std::span<const float> x, int half, const float* weights, float inverse) {
  Moments sum;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float l = as_float(std::clamp(nearest(inverse * x[i]), -half, half - 1));
    const float w = weights == nullptr ? x[i] * x[i] : weights[i];
    sum.xl += w * x[i] * l;
    sum.ll += w * l * l;
  }
  return sum;
}

float weighted_error(const MinSearch& search, std::span<const float> x, std::span<const float> weights,
                     const std::uint8_t* codes, float scale, float min) {
  float sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float difference = scale * as_float(codes[i]) + min - x[i];
    sum += weights[i] * (search.absolute ? std::fabs(difference) : difference * difference);
  }
  return sum;
}

// Least squares for scale and min given codes; false when the codes are all equal.
bool solve(std::span<const float> x, std::span<const float> weights, const std::uint8_t* codes, float sum_w,
           float sum_x, float& scale, float& min) {
  float sum_l = 0;
  float sum_ll = 0;
  float sum_xl = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float l = as_float(codes[i]);
    sum_l += weights[i] * l;
    sum_ll += weights[i] * l * l;
    sum_xl += weights[i] * l * x[i];
  }
  const float determinant = sum_w * sum_ll - sum_l * sum_l;
  if (!(determinant > 0)) return false;
  scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
  min = (sum_ll * sum_x - sum_l * sum_xl) / determinant;
  if (min > 0) {
    min = 0;
    scale = sum_xl / sum_ll;
  }
  return true;
}

std::uint8_t code_of(float value, int top) {
  return static_cast<std::uint8_t>(std::clamp(nearest(value), 0, top));
}

}  // namespace

ScaleAndMin fit_scale_min(const MinSearch& search, std::span<const float> x, std::span<const float> weights,
                          std::uint8_t* codes) {
  float min = x[0];
  float max = x[0];
  float sum_w = weights[0];
  float sum_x = weights[0] * x[0];
  for (std::size_t i = 1; i < x.size(); ++i) {
    min = std::min(min, x[i]);
    max = std::max(max, x[i]);
    sum_w += weights[i];
    sum_x += weights[i] * x[i];
  }
  min = std::min(min, 0.0f);
  if (max <= min) {
    std::fill_n(codes, x.size(), std::uint8_t{0});
    return {0.0f, -min};
  }
  const float inverse = as_float(search.top) / (max - min);
  float scale = 1.0f / inverse;
  for (std::size_t i = 0; i < x.size(); ++i) codes[i] = code_of(inverse * (x[i] - min), search.top);
  float best = weighted_error(search, x, weights, codes, scale, min);
  std::array<std::uint8_t, kMost> trial{};
  for (int step = 0; step <= search.steps; ++step) {
    // The numerator grows with the step, but `min` is the best one so far: ggml's search, too, mixes the two.
    const float candidate =
        (search.first + search.step * as_float(step) + as_float(search.top)) / (max - min);
    for (std::size_t i = 0; i < x.size(); ++i) trial[i] = code_of(candidate * (x[i] - min), search.top);
    float trial_scale = 0;
    float trial_min = 0;
    if (!solve(x, weights, trial.data(), sum_w, sum_x, trial_scale, trial_min)) continue;
    const float error = weighted_error(search, x, weights, trial.data(), trial_scale, trial_min);
    if (!(error < best)) continue;
    std::copy_n(trial.begin(), x.size(), codes);
    best = error;
    scale = trial_scale;
    min = trial_min;
  }
  return {scale, -min};
}

float fit_symmetric(std::span<const float> x, int half, const float* weights, std::int8_t* codes) {
  const float max = extreme(x);
  if (std::fabs(max) < kTiny) {
    std::fill_n(codes, x.size(), std::int8_t{0});
    return 0.0f;
  }
  float chosen = as_float(-half) / max;
  Moments sum = symmetric_moments(x, half, weights, chosen);
  float scale = sum.ll != 0 ? sum.xl / sum.ll : 0.0f;
  float best = scale * sum.xl;
  for (int step = -9; step <= 9; ++step) {
    if (step == 0) continue;
    const float inverse = -(as_float(half) + 0.1f * as_float(step)) / max;
    sum = symmetric_moments(x, half, weights, inverse);
    if (!(sum.ll > 0 && sum.xl * sum.xl > best * sum.ll)) continue;
    chosen = inverse;
    scale = sum.xl / sum.ll;
    best = scale * sum.xl;
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    codes[i] = static_cast<std::int8_t>(half + std::clamp(nearest(chosen * x[i]), -half, half - 1));
  }
  return scale;
}

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
  Moments sum = symmetric_moments(x, half, nullptr, inverse);
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
