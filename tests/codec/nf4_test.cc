// SPDX-License-Identifier: Apache-2.0
#include "codec/nf4.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"

namespace nibble {
namespace {

// The quantile function of N(0, 1) by bisection.
double quantile(double p) {
  double low = -10;
  double high = 10;
  for (int i = 0; i < 200; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return low;
}

// The construction of the paper's table: 8 quantiles above zero, 7 below, between offset and one half.
TEST(Nf4, LevelsAreNormalQuantiles) {
  const double offset = 0.9677083;
  const double largest = quantile(offset);
  const auto& levels = nf4_levels();
  for (int i = 1; i <= 8; ++i) {
    const double p = 0.5 + (offset - 0.5) * i / 8;
    EXPECT_NEAR(static_cast<double>(levels[static_cast<std::size_t>(7 + i)]), quantile(p) / largest, 2e-7)
        << i;
  }
  for (int i = 1; i <= 7; ++i) {
    const double p = 0.5 + (offset - 0.5) * i / 7;
    EXPECT_NEAR(static_cast<double>(levels[static_cast<std::size_t>(7 - i)]), -quantile(p) / largest, 2e-7)
        << i;
  }
  EXPECT_EQ(levels[7], 0.0f);
}

// E4: a search over all levels finds nothing nearer.
TEST(Nf4, CodesAreNearest) {
  Rng rng(1);
  for (int i = 0; i < 100000; ++i) {
    const auto x = static_cast<float>(2 * rng.uniform() - 1);
    const float chosen = std::fabs(nf4_levels()[nf4_code(x)] - x);
    for (const float level : nf4_levels()) ASSERT_LE(chosen, std::fabs(level - x) + 6e-8f) << x;
  }
  for (std::uint8_t c = 0; c < 16; ++c) EXPECT_EQ(nf4_code(nf4_levels()[c]), c);
}

TEST(Nf4, BlocksComeBackAndAreAFixedPoint) {
  Rng rng(2);
  std::vector<float> values(1000);
  for (float& value : values) value = static_cast<float>(0.02 * rng.normal());
  values[3] = 0;
  const Nf4Blocks blocks = nf4_quantize(values);
  EXPECT_EQ(blocks.scales.size(), 16u);
  const std::vector<float> stored = nf4_dequantize(blocks);
  EXPECT_EQ(nf4_dequantize(nf4_quantize(stored)), stored);
  EXPECT_EQ(stored[3], 0.0f);
  double signal = 0, noise = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    signal += static_cast<double>(values[i]) * static_cast<double>(values[i]);
    noise += std::pow(static_cast<double>(values[i] - stored[i]), 2);
  }
  EXPECT_LT(noise / signal, 0.0095);  // a normal source at 4 bits and block 64
  EXPECT_EQ(nf4_dequantize(nf4_quantize(std::vector<float>(64, 0.0f))), std::vector<float>(64, 0.0f));
}

TEST(Nf4, DoubleQuantizationOfScales) {
  Rng rng(3);
  std::vector<float> scales(700);
  for (float& scale : scales) scale = static_cast<float>(0.05 + 0.01 * rng.uniform());
  const std::vector<float> stored = nf4_dequantize_scales(nf4_quantize_scales(scales));
  for (std::size_t i = 0; i < scales.size(); ++i) EXPECT_NEAR(stored[i], scales[i], 0.01 / 127);
  EXPECT_NEAR(nf4_bits_per_weight(64, true), 4.127, 5e-4);
  EXPECT_EQ(nf4_bits_per_weight(64, false), 4.5);
}

}  // namespace
}  // namespace nibble
