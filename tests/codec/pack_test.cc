// SPDX-License-Identifier: Apache-2.0
#include "codec/pack.h"

#include <gtest/gtest.h>

#include "base/rng.h"
#include "support/golden_args.h"
#include "support/golden_tensors.h"

namespace nibble {
namespace {

using testing::golden_json;
using testing::GoldenTensors;
using testing::same_tensor;

Tensor random_codes(int bits, std::int64_t rows, std::int64_t cols) {
  Rng rng(static_cast<std::uint64_t>(bits), static_cast<std::uint64_t>(cols));
  Tensor codes(DType::kI8, {rows, cols});
  for (std::int8_t& code : codes.as_mutable<std::int8_t>()) {
    code = static_cast<std::int8_t>(static_cast<int>(rng.below(1u << bits)) - (1 << (bits - 1)));
  }
  return codes;
}

TEST(Pack, WordsOfTheSpecification) {
  const auto pack = [](std::vector<std::int8_t> codes, int bits) {
    std::vector<std::uint32_t> words(
        static_cast<std::size_t>(packed_words(static_cast<std::int64_t>(codes.size()), bits)));
    pack_row(codes, bits, words);
    return words;
  };
  using Words = std::vector<std::uint32_t>;
  EXPECT_EQ(pack({-8, -7, -6, -5, -4, -3, -2, -1}, 4), (Words{0x76543210}));
  EXPECT_EQ(pack({0, 1, 2, 3, 4, 5, 6, 7, -8}, 4), (Words{0xfedcba98, 0}));
  EXPECT_EQ(pack({-128, -1, 0, 127}, 8), (Words{0xff807f00}));
  std::vector<std::int8_t> cycle;
  for (int i = 0; i < 32; ++i) cycle.push_back(static_cast<std::int8_t>(i % 8 - 4));
  EXPECT_EQ(pack(cycle, 3), (Words{0x88fac688, 0xc688fac6, 0xfac688fa}));
  cycle.resize(11);
  EXPECT_EQ(pack(cycle, 3), (Words{0x88fac688, 0}));
}

TEST(Pack, EqualsTheReference) {
  const GoldenTensors golden("modifiers/packing.safetensors");
  const Json index = golden_json("modifiers/packing.json");
  ThreadPool pool(2);
  for (const auto& [name, entry] : index.items()) {
    if (!entry.contains("bits")) continue;
    const int bits = entry["bits"].get<int>();
    const Tensor codes = golden.get(name + "/codes");
    const Tensor packed = golden.get(name + "/packed");
    const Tensor packed0 = golden.get(name + "/packed_dim0");
    EXPECT_TRUE(same_tensor(packed, pack_codes(pool, codes, bits))) << name;
    EXPECT_TRUE(same_tensor(packed0, pack_codes_dim0(codes, bits))) << name;
    EXPECT_TRUE(same_tensor(codes, unpack_codes(pool, packed, bits, codes.dim(1)).value())) << name;
    EXPECT_TRUE(same_tensor(codes, unpack_codes_dim0(packed0, bits, codes.dim(0)).value())) << name;
  }
}

TEST(Pack, NibblesEqualTheReference) {
  const GoldenTensors golden("modifiers/packing.safetensors");
  const Json index = golden_json("modifiers/packing.json");
  ThreadPool pool(1);
  for (const auto& [name, entry] : index.items()) {
    if (entry.contains("bits")) continue;
    const std::vector<float> values = golden.get(name + "/values").to_f32();
    const Tensor packed = golden.get(name + "/packed");
    const float table[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    Tensor codes(DType::kU8, {packed.dim(0), 2 * packed.dim(1)});
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto at = std::find(std::begin(table), std::end(table), std::fabs(values[i])) - std::begin(table);
      codes.as_mutable<std::uint8_t>()[i] = static_cast<std::uint8_t>(at + (std::signbit(values[i]) ? 8 : 0));
    }
    EXPECT_TRUE(same_tensor(packed, pack_nibbles(pool, codes).value())) << name;
    EXPECT_TRUE(same_tensor(codes, unpack_nibbles(pool, packed))) << name;
  }
  EXPECT_FALSE(pack_nibbles(pool, Tensor(DType::kU8, {2, 3})).ok());
}

TEST(Pack, EveryWidthAndRaggedLengthComesBack) {
  ThreadPool pool(2);
  for (int bits = 1; bits <= 8; ++bits) {
    for (std::int64_t cols = 0; cols <= 70; ++cols) {
      const Tensor codes = random_codes(bits, 3, cols);
      const Tensor packed = pack_codes(pool, codes, bits);
      EXPECT_EQ(packed.dim(1), (cols * bits + 31) / 32);
      EXPECT_TRUE(same_tensor(codes, unpack_codes(pool, packed, bits, cols).value())) << bits << " " << cols;
      // Unused bits are zero.
      for (std::int64_t r = 0; r < 3 && cols > 0; ++r) {
        const std::uint32_t last =
            packed.as<std::uint32_t>()[static_cast<std::size_t>((r + 1) * packed.dim(1) - 1)];
        const std::int64_t used = cols * bits - 32 * (packed.dim(1) - 1);
        EXPECT_EQ(used == 32 ? 0u : last >> used, 0u);
      }
    }
  }
}

TEST(Pack, ReadsTheLayoutBefore017) {
  ThreadPool pool(1);
  for (const int bits : {3, 5, 6, 7}) {
    for (const std::int64_t cols : {1, 9, 10, 64, 100}) {
      const Tensor codes = random_codes(bits, 2, cols);
      const std::int64_t per_word = 32 / bits;
      Tensor old(DType::kI32, {2, (cols + per_word - 1) / per_word});
      for (std::int64_t i = 0; i < 2 * cols; ++i) {
        const auto unsigned_code = static_cast<std::uint32_t>(
            codes.as<std::int8_t>()[static_cast<std::size_t>(i)] + (1 << (bits - 1)));
        const auto word = static_cast<std::size_t>(i / cols * old.dim(1) + i % cols / per_word);
        old.as_mutable<std::uint32_t>()[word] |= unsigned_code << (i % cols % per_word * bits);
      }
      EXPECT_TRUE(
          same_tensor(codes, unpack_codes(pool, old, bits, cols, PackLayout::kWholeElements).value()));
      if (old.dim(1) != packed_words(cols, bits)) {
        EXPECT_TRUE(same_tensor(codes, unpack_codes(pool, old, bits, cols).value())) << "the width tells";
      }
    }
  }
  EXPECT_FALSE(pack_layout(99, 64, 3).ok());
  EXPECT_EQ(pack_layout(8, 64, 4, PackLayout::kWholeElements).value(), PackLayout::kDense);
}

}  // namespace
}  // namespace nibble
