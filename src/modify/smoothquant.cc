// SPDX-License-Identifier: Apache-2.0
#include "modify/smoothquant.h"

#include <algorithm>
#include <cmath>

namespace nibble {
namespace {

constexpr float kSmallestScale = 1e-5f;

}  // namespace

std::vector<float> smooth_activation_scales(std::span<const float> min, std::span<const float> max,
                                            SmoothStatistic statistic) {
  CHECK(min.size() == max.size(), "a minimum and a maximum per channel");
  std::vector<float> result(min.size());
  for (std::size_t c = 0; c < min.size(); ++c) {
    result[c] = statistic == SmoothStatistic::kRange
                    ? max[c] - min[c]
                    : std::max({std::fabs(min[c]), std::fabs(max[c]), kSmallestScale});
  }
  return result;
}

std::vector<float> smooth_weight_scales(std::span<const Matrix* const> weights, SmoothStatistic statistic) {
  std::vector<float> result;
  for (const Matrix* weight : weights) {
    result.resize(static_cast<std::size_t>(weight->cols()));
    for (std::int64_t r = 0; r < weight->rows(); ++r) {
      const std::span<const float> row = weight->row(r);
      for (std::size_t c = 0; c < row.size(); ++c) result[c] = std::max(result[c], std::fabs(row[c]));
    }
  }
  for (float& w : result) w = statistic == SmoothStatistic::kRange ? 2 * w : std::max(w, kSmallestScale);
  return result;
}

std::vector<float> smooth_scales(std::span<const float> activation, std::span<const float> weight,
                                 double strength, SmoothAlgorithm algorithm, DType dtype) {
  const auto power = [&](float base, double exponent) {
    return round_to(dtype, std::pow(base, round_to(dtype, static_cast<float>(exponent))));
  };
  std::vector<float> scales(activation.size());
  for (std::size_t c = 0; c < scales.size(); ++c) {
    const float a = round_to(dtype, activation[c]);
    float s = a;
    if (algorithm == SmoothAlgorithm::kLogEqualization) {
      s = round_to(dtype, a / round_to(dtype, std::log2(round_to(dtype, 2 + a))));
    } else if (weight[c] > 0) {
      s = round_to(dtype, power(a, strength) / power(weight[c], 1 - strength));
    }
    scales[c] = std::max(s, kSmallestScale);
  }
  return scales;
}

}  // namespace nibble
