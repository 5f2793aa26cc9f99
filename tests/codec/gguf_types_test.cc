// SPDX-License-Identifier: Apache-2.0
#include "codec/gguf_types.h"

#include <gtest/gtest.h>

#include <set>

#include "support/golden_tensors.h"

namespace nibble {
namespace {

using testing::GoldenTensors;
using testing::same_tensor;

std::vector<float> decode(const GgufTypeInfo& info, std::span<const std::byte> bytes) {
  const auto blocks = static_cast<std::int64_t>(bytes.size()) / info.block_bytes;
  std::vector<float> out(static_cast<std::size_t>(blocks * info.block_size));
  decode_gguf_rows(info.type, bytes, out);
  return out;
}

TEST(GgufTypes, TheTableIsConsistent) {
  std::set<std::uint32_t> ids;
  for (const GgufTypeInfo& info : gguf_types()) {
    EXPECT_TRUE(ids.insert(static_cast<std::uint32_t>(info.type)).second) << info.name;
    EXPECT_EQ(find_gguf_type(static_cast<std::uint32_t>(info.type)), &info);
    EXPECT_EQ(find_gguf_type(info.name), &info);
    EXPECT_LE(info.bits_per_weight(), 64);
  }
  EXPECT_EQ(find_gguf_type(4u), nullptr);  // Q4_2, dropped by ggml
  EXPECT_EQ(find_gguf_type(4000u), nullptr);
  EXPECT_EQ(find_gguf_type("q4_k")->type, GgufType::kQ4_K);
  EXPECT_DOUBLE_EQ(find_gguf_type("Q4_K")->bits_per_weight(), 4.5);
  EXPECT_DOUBLE_EQ(find_gguf_type("Q6_K")->bits_per_weight(), 6.5625);
}

TEST(GgufTypes, BytesAreWholeBlocksWithoutOverflow) {
  const GgufTypeInfo& q4k = gguf_type_info(GgufType::kQ4_K);
  EXPECT_EQ(gguf_bytes(q4k, 512).value(), 288u);
  EXPECT_EQ(gguf_bytes(q4k, 0).value(), 0u);
  EXPECT_FALSE(gguf_bytes(q4k, 255).ok());
  EXPECT_FALSE(gguf_bytes(gguf_type_info(GgufType::kF64), ~std::uint64_t{0}).ok());
}

TEST(GgufTypes, DecodingEqualsGgufPyAndLlamaCppToTheBit) {
  const GoldenTensors golden("codec/gguf_blocks.safetensors");
  int compared = 0;
  for (const auto& [name, expected] : golden.all()) {
    if (!name.ends_with("/values")) continue;
    const std::string stem = name.substr(0, name.size() - std::string("/values").size());
    std::string type = stem.substr(stem.rfind('/') + 1);
    if (type.ends_with(".imp")) type.resize(type.size() - 4);
    const GgufTypeInfo* info = find_gguf_type(type);
    ASSERT_NE(info, nullptr) << type;
    const Tensor bytes = golden.get(stem + "/bytes");
    const std::vector<float> values = decode(*info, bytes.bytes());
    EXPECT_TRUE(same_tensor(expected, Tensor::from_f32(DType::kF32, expected.shape(), values))) << stem;
    ++compared;
  }
  EXPECT_GE(compared, 26 + 4 * 2 * 12);
}

TEST(GgufTypes, BlocksDecodeAtAnyAlignmentAndOnTheirOwn) {
  const GoldenTensors golden("codec/gguf_blocks.safetensors");
  for (const GgufTypeInfo& info : gguf_types()) {
    const std::string key = "types/" + std::string(info.name) + "/bytes";
    if (!golden.has(key)) continue;
    const Tensor bytes = golden.get(key);
    const std::vector<float> whole = decode(info, bytes.bytes());
    std::vector<std::byte> shifted(bytes.byte_size() + 1);
    std::memcpy(shifted.data() + 1, bytes.bytes().data(), bytes.byte_size());
    const auto block_bytes = static_cast<std::size_t>(info.block_bytes);
    const auto block_size = static_cast<std::size_t>(info.block_size);
    for (std::size_t b = 0; b * block_bytes < bytes.byte_size(); ++b) {
      std::vector<float> one(block_size);
      decode_gguf_rows(info.type, std::span(shifted).subspan(1 + b * block_bytes, block_bytes), one);
      ASSERT_EQ(std::memcmp(one.data(), whole.data() + b * block_size, block_size * sizeof(float)), 0)
          << info.name;
    }
  }
}

}  // namespace
}  // namespace nibble
