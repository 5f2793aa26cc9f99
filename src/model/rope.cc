// SPDX-License-Identifier: Apache-2.0
// Rotary positions (Su et al. 2021) and the ways to stretch them: linear (Chen et al. 2023), dynamic NTK,
// YaRN (Peng et al. 2023), Llama 3.1's smoothed bands, LongRoPE (Ding et al. 2024). The angle is an fp32
// product of an fp32 frequency and the position, as in the reference: at position 100,000 another rounding
// would turn by 0.004 rad.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "model/pass.h"

namespace nibble {
namespace {

// theta^(-2i / dim)
double plain_frequency(double theta, std::int64_t i, std::int64_t dim) {
  return 1.0 / std::pow(theta, static_cast<double>(2 * i) / static_cast<double>(dim));
}

// Frequencies of long waves are divided by the factor, those of short waves kept, those between blended.
double llama3_frequency(const RopeConfig& rope, double frequency) {
  const double wave = 2 * std::numbers::pi / frequency;
  if (wave < rope.original_max_positions / rope.high_freq_factor) return frequency;
  if (wave > rope.original_max_positions / rope.low_freq_factor) return frequency / rope.factor;
  const double smooth = (rope.original_max_positions / wave - rope.low_freq_factor) /
                        (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - smooth) * frequency / rope.factor + smooth * frequency;
}

// The column pair that turns `turns` times over the original context.
double yarn_pair(const RopeConfig& rope, double turns) {
  return static_cast<double>(rope.dim) *
         std::log(rope.original_max_positions / (turns * 2 * std::numbers::pi)) / (2 * std::log(rope.theta));
}

double yarn_frequency(const RopeConfig& rope, std::int64_t i) {
  double low = yarn_pair(rope, rope.beta_fast);
  double high = yarn_pair(rope, rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(rope.dim - 1));
  if (low == high) high += 0.001;
  const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
  const double frequency = plain_frequency(rope.theta, i, rope.dim);
  return frequency / rope.factor * ramp + frequency * (1 - ramp);
}

double dynamic_theta(const RopeConfig& rope, std::int64_t sequence_length) {
  const auto limit = static_cast<double>(rope.max_positions);
  const double length = std::max(static_cast<double>(sequence_length), limit);
  const auto dim = static_cast<double>(rope.dim);
  return rope.theta * std::pow(rope.factor * length / limit - (rope.factor - 1), dim / (dim - 2));
}

}  // namespace

std::vector<float> rope_frequencies(const RopeConfig& rope, std::int64_t sequence_length) {
  std::vector<float> frequencies;
  const double theta = rope.kind == RopeKind::kDynamic ? dynamic_theta(rope, sequence_length) : rope.theta;
  const bool is_long = static_cast<double>(sequence_length) > rope.original_max_positions;
  for (std::int64_t i = 0; i < rope.dim / 2; ++i) {
    double frequency = plain_frequency(theta, i, rope.dim);
    switch (rope.kind) {
      case RopeKind::kDefault:
      case RopeKind::kDynamic:
        break;
      case RopeKind::kLinear:
        frequency /= rope.factor;
        break;
      case RopeKind::kLlama3:
        frequency = llama3_frequency(rope, frequency);
        break;
      case RopeKind::kYarn:
        frequency = yarn_frequency(rope, i);
        break;
      case RopeKind::kLongRope:
        frequency /= (is_long ? rope.long_factor : rope.short_factor)[static_cast<std::size_t>(i)];
        break;
    }
    frequencies.push_back(static_cast<float>(frequency));
  }
  return frequencies;
}

RopeTable rope_table(const RopeConfig& rope, std::int64_t first, std::int64_t rows) {
  const std::vector<float> frequencies = rope_frequencies(rope, first + rows);
  RopeTable table{rope.dim, Matrix(rows, rope.dim / 2), Matrix(rows, rope.dim / 2)};
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto position = static_cast<float>(first + r);
    for (std::int64_t i = 0; i < rope.dim / 2; ++i) {
      const auto angle = static_cast<double>(frequencies[static_cast<std::size_t>(i)] * position);
      table.cos.at(r, i) = static_cast<float>(std::cos(angle) * rope.attention_factor);
      table.sin.at(r, i) = static_cast<float>(std::sin(angle) * rope.attention_factor);
    }
  }
  return table;
}

}  // namespace nibble
