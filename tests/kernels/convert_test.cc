// SPDX-License-Identifier: Apache-2.0
#include "kernels/convert.h"

#include <bit>
#include <cstring>

#include "kernels/levels.h"

namespace nibble::kernels {
namespace {

using testing::at_every_level;
using testing::Random;

template <class Code, class Decode>
void check_decode(DType dtype, Decode decode) {
  ThreadPool pool(2);
  std::vector<Code> codes((1u << (8 * sizeof(Code))) + 5);  // every code; an incomplete last vector
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<Code>(i);
  std::vector<std::byte> bytes(codes.size() * sizeof(Code) + 1);
  std::memcpy(bytes.data() + 1, codes.data(), codes.size() * sizeof(Code));  // off any alignment
  std::vector<float> out(codes.size());
  decode_to_f32(pool, dtype, bytes.data() + 1, static_cast<std::int64_t>(codes.size()), out.data());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    ASSERT_EQ(std::bit_cast<std::uint32_t>(out[i]), std::bit_cast<std::uint32_t>(decode(codes[i])))
        << codes[i];
  }
}

// Every exponent and sign with the mantissas around each rounding border, plus random bits.
std::vector<float> awkward_floats() {
  std::vector<float> out;
  Random random(3);
  for (std::uint32_t exponent = 0; exponent < 512; ++exponent) {
    for (int shift = 12; shift < 23; ++shift) {
      for (const std::uint32_t top : {0u, 1u, 2u, 3u, 0x7ffu}) {
        for (const int delta : {-1, 0, 1}) {
          const std::uint32_t mantissa =
              ((top << (shift + 1)) | (1u << shift)) + static_cast<std::uint32_t>(delta);
          out.push_back(std::bit_cast<float>((exponent << 23) | (mantissa & 0x7fffffu)));
        }
      }
    }
    out.push_back(std::bit_cast<float>(exponent << 23));
    for (int i = 0; i < 20; ++i)
      out.push_back(std::bit_cast<float>((exponent << 23) | (random.bits() & 0x7fffffu)));
  }
  for (int i = 0; i < 50001; ++i) out.push_back(std::bit_cast<float>(random.bits()));
  return out;
}

template <class Code, class Encode>
void check_encode(DType dtype, Encode encode) {
  ThreadPool pool(2);
  const std::vector<float> values = awkward_floats();
  std::vector<std::byte> bytes(values.size() * sizeof(Code) + 1);
  encode_from_f32(pool, dtype, values.data(), static_cast<std::int64_t>(values.size()), bytes.data() + 1);
  for (std::size_t i = 0; i < values.size(); ++i) {
    Code code;
    std::memcpy(&code, bytes.data() + 1 + i * sizeof(Code), sizeof(Code));
    ASSERT_EQ(code, encode(values[i])) << std::hex << std::bit_cast<std::uint32_t>(values[i]);
  }
}

TEST(ConvertTest, DecodesEveryCodeAsTheScalarFunctionsDo) {
  at_every_level([](CpuLevel) {
    check_decode<std::uint16_t>(DType::kF16, f16_to_f32);
    check_decode<std::uint16_t>(DType::kBF16, bf16_to_f32);
    check_decode<std::uint8_t>(DType::kF8E4M3, f8e4m3_to_f32);
    check_decode<std::uint8_t>(DType::kF8E5M2, f8e5m2_to_f32);
  });
}

TEST(ConvertTest, EncodesAsTheScalarFunctionsDo) {
  at_every_level([](CpuLevel) {
    check_encode<std::uint16_t>(DType::kF16, f32_to_f16);
    check_encode<std::uint16_t>(DType::kBF16, f32_to_bf16);
    check_encode<std::uint8_t>(DType::kF8E4M3, f32_to_f8e4m3);
    check_encode<std::uint8_t>(DType::kF8E5M2, f32_to_f8e5m2);
  });
}

TEST(ConvertTest, RoundsThroughAFormatInPlace) {
  ThreadPool pool(2);
  at_every_level([&](CpuLevel) {
    for (const std::int64_t count : {0, 1, 7, 33, 5000}) {
      const auto before = Random(4).floats(count, -3, 3);
      auto values = before;
      round_through(pool, DType::kBF16, values.data(), count);
      for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], round_to(DType::kBF16, before[i]));
      round_through(pool, DType::kF32, values.data(), count);
    }
  });
  EXPECT_TRUE(is_convertible(DType::kF8E5M2));
  EXPECT_FALSE(is_convertible(DType::kI32));
}

}  // namespace
}  // namespace nibble::kernels
