// SPDX-License-Identifier: Apache-2.0
// The small float formats against a brute-force nearest search over all codes, ties to the even code.
#include "base/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "base/rng.h"

namespace nibble {
namespace {

struct Format {
  const char* name;
  int codes;             // codes 0 .. codes - 1 are the finite non-negative values, ascending
  std::uint32_t beyond;  // the code of values that round past the largest
  std::function<float(std::uint32_t)> decode;
  std::function<std::uint32_t(float)> encode;
};

std::vector<Format> formats() {
  return {
      {"f16", 0x7c00, 0x7c00, [](std::uint32_t c) { return f16_to_f32(static_cast<std::uint16_t>(c)); },
       f32_to_f16},
      {"bf16", 0x7f80, 0x7f80, [](std::uint32_t c) { return bf16_to_f32(static_cast<std::uint16_t>(c)); },
       f32_to_bf16},
      {"f8e4m3", 0x7f, 0x7f, [](std::uint32_t c) { return f8e4m3_to_f32(static_cast<std::uint8_t>(c)); },
       f32_to_f8e4m3},
      {"f8e5m2", 0x7c, 0x7c, [](std::uint32_t c) { return f8e5m2_to_f32(static_cast<std::uint8_t>(c)); },
       f32_to_f8e5m2},
  };
}

TEST(DTypeTest, EveryCodeSurvivesARoundTrip) {
  for (const Format& format : formats()) {
    for (std::uint32_t code = 0; code < static_cast<std::uint32_t>(format.codes); ++code) {
      ASSERT_EQ(format.encode(format.decode(code)), code) << format.name;
    }
  }
}

TEST(DTypeTest, MidpointsGoToTheEvenCode) {
  for (const Format& format : formats()) {
    for (std::uint32_t code = 0; code + 1 < static_cast<std::uint32_t>(format.codes); ++code) {
      const double low = format.decode(code);
      const double high = format.decode(code + 1);
      const double middle = (low + high) / 2;
      const auto exact = static_cast<float>(middle);
      if (static_cast<double>(exact) != middle) continue;  // bf16 subnormals: the midpoint is no float
      ASSERT_EQ(format.encode(exact), code % 2 == 0 ? code : code + 1) << format.name << " " << code;
      ASSERT_EQ(format.encode(std::nextafter(exact, 0.0f)), code) << format.name;
      ASSERT_EQ(format.encode(std::nextafter(exact, INFINITY)), code + 1) << format.name;
    }
  }
}

TEST(DTypeTest, SignIsKept) {
  EXPECT_EQ(f32_to_f16(-0.0f), 0x8000);
  EXPECT_EQ(f32_to_f8e4m3(-448.0f), 0xfe);
  EXPECT_EQ(f8e4m3_to_f32(0xfe), -448.0f);
  EXPECT_EQ(f32_to_bf16(-1.0f), 0xbf80);
}

TEST(DTypeTest, ValuesBeyondTheLargestOverflow) {
  EXPECT_EQ(f32_to_f16(65519.0f), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(f32_to_f8e4m3(463.9f), 0x7e);
  EXPECT_EQ(f32_to_f8e4m3(464.1f), 0x7f);  // no infinity: NaN, as in torch's cast
  EXPECT_EQ(f32_to_f8e5m2(61440.0f), 0x7c);
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
}

TEST(DTypeTest, NanStaysNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(nan))));
  EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(nan))));
  EXPECT_TRUE(std::isnan(f8e4m3_to_f32(f32_to_f8e4m3(nan))));
  EXPECT_TRUE(std::isnan(f8e5m2_to_f32(f32_to_f8e5m2(nan))));
  EXPECT_TRUE(std::isnan(f8e8m0_to_f32(0xff)));
}

TEST(DTypeTest, RandomFloatsGoToTheNearestE4M3Code) {
  Rng rng(1);
  for (int i = 0; i < 20000; ++i) {
    const auto value = static_cast<float>(rng.normal() * std::exp2(6.0 * rng.normal()));
    if (std::abs(value) > 448.0f) continue;
    const float rounded = f8e4m3_to_f32(f32_to_f8e4m3(value));
    float best = std::numeric_limits<float>::infinity();
    for (int code = 0; code < 256; ++code) {
      const float candidate = f8e4m3_to_f32(static_cast<std::uint8_t>(code));
      if (!std::isnan(candidate)) best = std::min(best, std::abs(candidate - value));
    }
    ASSERT_EQ(std::abs(rounded - value), best) << value;
  }
}

TEST(DTypeTest, NamesGoBothWays) {
  for (const DType dtype :
       {DType::kF64, DType::kBF16, DType::kF8E4M3, DType::kI64, DType::kU8, DType::kBool}) {
    EXPECT_EQ(dtype_from_safetensors(safetensors_name(dtype)), dtype);
    EXPECT_EQ(dtype_from_torch(torch_name(dtype)), dtype);
  }
  EXPECT_EQ(dtype_from_torch("torch.bfloat16"), DType::kBF16);
  EXPECT_EQ(dtype_from_torch("quaternion"), std::nullopt);
}

}  // namespace
}  // namespace nibble
