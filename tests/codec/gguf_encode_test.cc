// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/rng.h"
#include "codec/gguf_types.h"
#include "kernels/cpu_level.h"
#include "kernels/gguf_fit.h"
#include "support/golden_tensors.h"

namespace nibble {
namespace {

using testing::GoldenTensors;

constexpr std::size_t kCols = 512;

std::vector<std::byte> encode(const GgufTypeInfo& info, std::span<const float> values, std::size_t cols,
                              std::span<const float> importance = {}) {
  const std::size_t row_bytes =
      cols / static_cast<std::size_t>(info.block_size) * static_cast<std::size_t>(info.block_bytes);
  std::vector<std::byte> out(values.size() / cols * row_bytes);
  for (std::size_t r = 0; r < values.size() / cols; ++r) {
    encode_gguf_row(info.type, values.subspan(r * cols, cols), importance,
                    std::span(out).subspan(r * row_bytes, row_bytes));
  }
  return out;
}

std::vector<float> round_trip(const GgufTypeInfo& info, std::span<const float> values, std::size_t cols,
                              std::span<const float> importance = {}) {
  std::vector<float> out(values.size());
  decode_gguf_rows(info.type, encode(info, values, cols, importance), out);
  return out;
}

double error(std::span<const float> a, std::span<const float> b, std::span<const float> weights = {}) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double e = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += e * e * (weights.empty() ? 1.0 : static_cast<double>(weights[i % weights.size()]));
  }
  return sum;
}

TEST(GgufEncode, BytesEqualLlamaCpp) {
  const GoldenTensors golden("codec/gguf_blocks.safetensors");
  int compared = 0;
  for (const char* set : {"normal-1", "outliers-2", "offset-3", "edges-4"}) {
    const std::string folder = "blocks/" + std::string(set) + "/";
    const std::vector<float> x = golden.get(folder + "x").to_f32();
    const std::vector<float> importance = golden.get(folder + "importance").to_f32();
    for (const auto& [name, bytes] : golden.all()) {
      if (!name.starts_with(folder) || !name.ends_with("/bytes")) continue;
      std::string type =
          name.substr(folder.size(), name.size() - folder.size() - std::string("/bytes").size());
      const bool weighted = type.ends_with(".imp");
      if (weighted) type.resize(type.size() - 4);
      const GgufTypeInfo* info = find_gguf_type(type);
      ASSERT_NE(info, nullptr) << type;
      if (info->encode == nullptr) continue;
      const auto found =
          encode(*info, x, kCols, weighted ? std::span<const float>(importance) : std::span<const float>());
      ASSERT_EQ(found.size(), bytes.byte_size());
      std::size_t wrong = 0;
      std::size_t first = 0;
      for (std::size_t i = found.size(); i-- > 0;) {
        if (found[i] == bytes.bytes()[i]) continue;
        ++wrong;
        first = i;
      }
      EXPECT_EQ(wrong, 0u) << name << ": first at byte " << first << " (block "
                           << first / static_cast<std::size_t>(info->block_bytes) << ", byte "
                           << first % static_cast<std::size_t>(info->block_bytes) << ")";
      ++compared;
    }
  }
  EXPECT_EQ(compared, 4 * 2 * 18);
}

std::vector<float> random_row(std::size_t count, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> out(count);
  for (float& value : out) value = static_cast<float>(0.1 * rng.normal());
  return out;
}

// E1: what was decoded encodes to values no further away; for types that keep the extreme value, to itself.
TEST(GgufEncode, ErrorsAreSmallAndMoreBitsAreBetter) {
  const std::vector<float> x = random_row(4 * kCols, 3);
  double signal = error(x, std::vector<float>(x.size()));
  const std::pair<const char*, double> most[] = {
      {"Q8_0", 1e-4}, {"Q6_K", 1e-3},   {"Q5_K", 2e-3},   {"Q5_1", 3e-3}, {"Q5_0", 4e-3},
      {"Q4_K", 8e-3}, {"IQ4_XS", 8e-3}, {"IQ4_NL", 8e-3}, {"Q4_1", 1e-2}, {"Q4_0", 1e-2},
      {"Q3_K", 4e-2}, {"Q2_K", 1.5e-1}, {"MXFP4", 2e-2},  {"NVFP4", 2e-2}};
  for (const auto& [name, bound] : most) {
    const GgufTypeInfo* info = find_gguf_type(std::string_view(name));
    EXPECT_LT(error(x, round_trip(*info, x, kCols)) / signal, bound) << name;
  }
}

// E9: powers of two pass through types whose scales are halves (within their range).
TEST(GgufEncode, ScalesWithPowersOfTwo) {
  const std::vector<float> x = random_row(kCols, 5);
  std::vector<float> larger = x;
  for (float& value : larger) value *= 16;
  for (const GgufTypeInfo& info : gguf_types()) {
    if (info.encode == nullptr || info.type == GgufType::kNVFP4) continue;
    std::vector<float> a = round_trip(info, x, kCols);
    for (float& value : a) value *= 16;
    EXPECT_EQ(a, round_trip(info, larger, kCols)) << info.name;
  }
}

// E8: the search never ends above its min-max start.
TEST(GgufEncode, SearchNeverLosesToItsStart) {
  Rng rng(7);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<float> x(32);
    std::vector<float> weights(32);
    for (float& value : x) value = static_cast<float>(rng.normal() + (trial % 3) - 1);
    for (float& value : weights) value = static_cast<float>(std::exp(rng.normal()));
    const auto weighted = [&](const kernels::MinSearch& search) {
      std::uint8_t codes[32];
      float scale = 0;
      float min = 0;
      kernels::fit_scale_min(search, 32, 1, x.data(), weights.data(), codes, &scale, &min);
      double sum = 0;
      for (std::size_t i = 0; i < 32; ++i) {
        const double e = static_cast<double>(scale * static_cast<float>(codes[i]) - min - x[i]);
        sum += static_cast<double>(weights[i]) * e * e;
      }
      return sum;
    };
    for (const int top : {3, 15, 31}) {
      EXPECT_LE(weighted({top, -0.9f, 0.05f, 36, false}), weighted({top, 0, 0, -1, false}) * (1 + 1e-5));
    }
  }
}

struct Fits {
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;

  bool operator==(const Fits& other) const {
    return codes == other.codes && std::memcmp(scales.data(), other.scales.data(), 4 * scales.size()) == 0;
  }
};

// Everything the fit kernels give for blocks that include flat, zero, tiny and one-sided ones.
Fits all_fits(int n, const std::vector<float>& x, const std::vector<float>& weights) {
  const std::int64_t count = static_cast<std::int64_t>(x.size()) / n;
  Fits out;
  for (const kernels::MinSearch& search :
       {kernels::MinSearch{15, -1.0f, 0.1f, 20, false}, {3, -0.5f, 0.1f, 15, true}}) {
    std::vector<std::uint8_t> codes(x.size());
    std::vector<float> scale(static_cast<std::size_t>(count)), min(scale.size());
    kernels::fit_scale_min(search, n, count, x.data(), weights.data(), codes.data(), scale.data(),
                           min.data());
    out.codes.insert(out.codes.end(), codes.begin(), codes.end());
    out.scales.insert(out.scales.end(), scale.begin(), scale.end());
    out.scales.insert(out.scales.end(), min.begin(), min.end());
  }
  for (const float* w : {static_cast<const float*>(nullptr), weights.data()}) {
    std::vector<std::int8_t> codes(x.size());
    std::vector<float> scale(static_cast<std::size_t>(count));
    kernels::fit_symmetric(8, n, count, x.data(), w, codes.data(), scale.data());
    for (const std::int8_t code : codes) out.codes.push_back(static_cast<std::uint8_t>(code));
    out.scales.insert(out.scales.end(), scale.begin(), scale.end());
  }
  if (n == 32) {
    const std::int8_t levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    std::vector<float> scale(static_cast<std::size_t>(count));
    kernels::fit_levels(levels, count, x.data(), weights.data(), scale.data());
    out.scales.insert(out.scales.end(), scale.begin(), scale.end());
  }
  return out;
}

TEST(GgufEncode, FitsAreTheSameAtEveryLevel) {
  Rng rng(17);
  const kernels::CpuLevel before = kernels::active_level();
  for (const int n : {16, 32}) {
    std::vector<float> x(static_cast<std::size_t>(37 * n));
    std::vector<float> weights(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t block = i / static_cast<std::size_t>(n);
      x[i] = static_cast<float>(rng.normal());
      if (block % 7 == 1) x[i] = 0.5f;
      if (block % 7 == 2) x[i] = 0;
      if (block % 7 == 3) x[i] = std::fabs(x[i]) + 1;
      if (block % 7 == 4) x[i] *= 1e-20f;
      if (block % 7 == 5) x[i] = -0.25f;
      weights[i] = block % 11 == 10 ? 0.0f : static_cast<float>(rng.uniform());
    }
    kernels::set_active_level(kernels::CpuLevel::kPortable);
    const Fits expected = all_fits(n, x, weights);
    for (const kernels::CpuLevel level : kernels::available_levels()) {
      kernels::set_active_level(level);
      EXPECT_EQ(all_fits(n, x, weights), expected) << kernels::level_name(level) << " " << n;
    }
  }
  kernels::set_active_level(before);
}

TEST(GgufEncode, ImportanceLowersTheWeightedError) {
  const std::vector<float> x = random_row(8 * kCols, 11);
  Rng rng(13);
  std::vector<float> importance(kCols);
  for (float& value : importance) value = static_cast<float>(std::exp(2 * rng.normal()));
  for (const char* name :
       {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"}) {
    const GgufTypeInfo* info = find_gguf_type(std::string_view(name));
    const double plain = error(x, round_trip(*info, x, kCols), importance);
    const double weighted = error(x, round_trip(*info, x, kCols, importance), importance);
    EXPECT_LT(weighted, plain) << name;
  }
}

// E10, and nothing undefined for values that have no business in a weight.
TEST(GgufEncode, DegenerateBlocksStayFinite) {
  const float values[] = {0.0f, -0.0f, 1e-42f, -1e-38f, 1e-8f, 0.5f, -3.0f, 6e4f, 1e30f};
  for (const float value : values) {
    for (const GgufTypeInfo& info : gguf_types()) {
      if (info.encode == nullptr) continue;
      std::vector<float> x(kCols, value);
      for (std::size_t i = 0; i < kCols; i += 3) x[i] = 0;
      const std::vector<float> constant(kCols, value);
      for (const auto& row : {x, constant}) {
        for (const auto& weights :
             {std::vector<float>(), std::vector<float>(kCols, 0.0f), std::vector<float>(kCols, 1.0f)}) {
          const std::vector<float> out = round_trip(info, row, kCols, weights);
          if (std::fabs(value) > 1e4f) continue;  // the half scale overflows
          for (const float stored : out) EXPECT_TRUE(std::isfinite(stored)) << info.name << " " << value;
        }
      }
      if (value == 0.0f) {
        for (const float stored : round_trip(info, constant, kCols)) EXPECT_EQ(stored, 0.0f) << info.name;
      }
    }
  }
}

}  // namespace
}  // namespace nibble
