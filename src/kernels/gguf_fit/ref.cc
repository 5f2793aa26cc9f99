// SPDX-License-Identifier: Apache-2.0
// One block at a time: the oracle of the other levels.
#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "kernels/gguf_fit/table.h"

namespace nibble::kernels::gguf_fit {
namespace {

using Values = std::span<const float>;

float as_float(int value) {
  return static_cast<float>(value);
}

// Half to even within [low, high]; NaN is `low`.
int code_of(float value, int low, int high) {
  value = value > as_float(low) ? value : as_float(low);
  value = value < as_float(high) ? value : as_float(high);
  return static_cast<int>(std::nearbyint(value));
}

float extreme(Values x) {
  float best = 0;
  for (const float value : x) best = std::fabs(value) > std::fabs(best) ? value : best;
  return best;
}

struct Moments {
  float xl = 0;  // sum w x l
  float ll = 0;  // sum w l l
};

Moments symmetric_moments(Values x, int half, const float* weights, float inverse) {
  Moments sum;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float l = as_float(code_of(inverse * x[i], -half, half - 1));
    const float w = weights == nullptr ? x[i] * x[i] : weights[i];
    sum.xl += w * x[i] * l;
    sum.ll += w * l * l;
  }
  return sum;
}

float weighted_error(const MinSearch& search, Values x, const float* weights, const std::uint8_t* codes,
                     float scale, float min) {
  float sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float difference = scale * as_float(codes[i]) + min - x[i];
    sum += weights[i] * (search.absolute ? std::fabs(difference) : difference * difference);
  }
  return sum;
}

struct Line {
  float scale = 0;
  float min = 0;
};

// Least squares for scale and min given codes; false when the codes are all equal.
bool solve(Values x, const float* weights, const std::uint8_t* codes, float sum_w, float sum_x, Line& line) {
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
  line.scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
  line.min = (sum_ll * sum_x - sum_l * sum_xl) / determinant;
  if (line.min > 0) line = {sum_xl / sum_ll, 0.0f};
  return true;
}

void round_codes(Values x, float inverse, float min, int top, std::uint8_t* codes) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    codes[i] = static_cast<std::uint8_t>(code_of(inverse * (x[i] - min), 0, top));
  }
}

Line fit_line(const MinSearch& search, Values x, const float* weights, std::uint8_t* codes) {
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
    return {0.0f, min};
  }
  const float inverse = as_float(search.top) / (max - min);
  Line best_line{1.0f / inverse, min};
  round_codes(x, inverse, min, search.top, codes);
  float best = weighted_error(search, x, weights, codes, best_line.scale, min);
  std::array<std::uint8_t, kFitMost> trial{};
  for (int step = 0; step <= search.steps; ++step) {
    // The range is that of the best min so far, not of the values: ggml's search mixes the two as well.
    const float candidate =
        (search.first + search.step * as_float(step) + as_float(search.top)) / (max - best_line.min);
    round_codes(x, candidate, best_line.min, search.top, trial.data());
    Line line;
    if (!solve(x, weights, trial.data(), sum_w, sum_x, line)) continue;
    const float error = weighted_error(search, x, weights, trial.data(), line.scale, line.min);
    if (!(error < best)) continue;
    std::copy_n(trial.begin(), x.size(), codes);
    best = error;
    best_line = line;
  }
  return best_line;
}

void scale_min(const MinSearch& search, int n, std::int64_t count, const float* x, const float* weights,
               std::uint8_t* codes, float* scale, float* min) {
  for (std::int64_t b = 0; b < count; ++b) {
    const Line line =
        fit_line(search, {x + b * n, static_cast<std::size_t>(n)}, weights + b * n, codes + b * n);
    scale[b] = line.scale;
    min[b] = -line.min;
  }
}

float fit_one_symmetric(Values x, int half, const float* weights, std::int8_t* codes) {
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
    codes[i] = static_cast<std::int8_t>(half + code_of(chosen * x[i], -half, half - 1));
  }
  return scale;
}

void symmetric(int half, int n, std::int64_t count, const float* x, const float* weights, std::int8_t* codes,
               float* scale) {
  for (std::int64_t b = 0; b < count; ++b) {
    const float* block_weights = weights == nullptr ? nullptr : weights + b * n;
    scale[b] =
        fit_one_symmetric({x + b * n, static_cast<std::size_t>(n)}, half, block_weights, codes + b * n);
  }
}

float nearest_level(const std::int8_t* levels, float x) {
  int index = 0;
  while (index < 15 && x + x >= as_float(levels[index] + levels[index + 1])) ++index;
  return as_float(levels[index]);
}

Moments level_moments(const std::int8_t* levels, Values x, const float* weights, float inverse) {
  Moments sum;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float q = nearest_level(levels, inverse * x[i]);
    sum.xl += weights[i] * q * x[i];
    sum.ll += weights[i] * q * q;
  }
  return sum;
}

void level_fits(const std::int8_t* levels, std::int64_t count, const float* x, const float* weights,
                float* scale) {
  for (std::int64_t b = 0; b < count; ++b) {
    const Values block(x + 32 * b, 32);
    const float* w = weights + 32 * b;
    const float max = extreme(block);
    scale[b] = 0;
    if (std::fabs(max) < kTiny) continue;
    const float lowest = as_float(levels[0]);
    Moments sum = level_moments(levels, block, w, 1.0f / (-max / lowest));
    scale[b] = sum.ll > 0 ? sum.xl / sum.ll : 0.0f;
    float best = scale[b] * sum.xl;
    for (int step = -kLevelTries; step <= kLevelTries; ++step) {
      sum = level_moments(levels, block, w, (as_float(step) + lowest) / max);
      if (!(sum.ll > 0 && sum.xl * sum.xl > best * sum.ll)) continue;
      scale[b] = sum.xl / sum.ll;
      best = scale[b] * sum.xl;
    }
  }
}

}  // namespace

const Kernels kPortable{scale_min, symmetric, level_fits};

}  // namespace nibble::kernels::gguf_fit
