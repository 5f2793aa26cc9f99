// SPDX-License-Identifier: Apache-2.0
#include "codec/nf4.h"

#include <algorithm>
#include <cmath>

namespace nibble {
namespace {

constexpr std::array<float, 16> kLevels{
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

constexpr std::size_t kScaleBlock = 256;

}  // namespace

const std::array<float, 16>& nf4_levels() {
  return kLevels;
}

std::uint8_t nf4_code(float x) {
  std::uint8_t code = 0;
  for (std::size_t i = 0; i + 1 < kLevels.size(); ++i) {
    if (x > (kLevels[i] + kLevels[i + 1]) / 2) code = static_cast<std::uint8_t>(i + 1);
  }
  return code;
}

Nf4Blocks nf4_quantize(std::span<const float> values, std::int64_t block_size) {
  Nf4Blocks out{block_size, std::vector<std::uint8_t>(values.size()), {}};
  const auto step = static_cast<std::size_t>(block_size);
  for (std::size_t first = 0; first < values.size(); first += step) {
    const std::size_t last = std::min(first + step, values.size());
    float scale = 0;
    for (std::size_t i = first; i < last; ++i) scale = std::max(scale, std::fabs(values[i]));
    for (std::size_t i = first; i < last; ++i) out.codes[i] = nf4_code(scale > 0 ? values[i] / scale : 0.0f);
    out.scales.push_back(scale);
  }
  return out;
}

std::vector<float> nf4_dequantize(const Nf4Blocks& blocks) {
  std::vector<float> out(blocks.codes.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = kLevels[blocks.codes[i] & 15] * blocks.scales[i / static_cast<std::size_t>(blocks.block_size)];
  }
  return out;
}

Nf4Scales nf4_quantize_scales(std::span<const float> scales) {
  Nf4Scales out;
  double sum = 0;
  for (const float scale : scales) sum += static_cast<double>(scale);
  out.mean = scales.empty() ? 0.0f : static_cast<float>(sum / static_cast<double>(scales.size()));
  for (std::size_t first = 0; first < scales.size(); first += kScaleBlock) {
    const std::span<const float> block = scales.subspan(first, std::min(kScaleBlock, scales.size() - first));
    float largest = 0;
    for (const float scale : block) largest = std::max(largest, std::fabs(scale - out.mean));
    const float step = largest / 127.0f;
    for (const float scale : block) {
      out.codes.push_back(step > 0 ? static_cast<std::int8_t>(std::nearbyint((scale - out.mean) / step))
                                   : std::int8_t{0});
    }
    out.scales.push_back(step);
  }
  return out;
}

std::vector<float> nf4_dequantize_scales(const Nf4Scales& scales) {
  std::vector<float> out(scales.codes.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<float>(scales.codes[i]) * scales.scales[i / kScaleBlock] + scales.mean;
  }
  return out;
}

double nf4_bits_per_weight(std::int64_t block_size, bool double_quantization) {
  const double scale_bits = double_quantization ? 8.0 + 32.0 / static_cast<double>(kScaleBlock) : 32.0;
  return 4.0 + scale_bits / static_cast<double>(block_size);
}

}  // namespace nibble
