// SPDX-License-Identifier: Apache-2.0
#include "kernels/zero_bits.h"

#include <cstring>

#include "base/tensor.h"
#include "kernels/levels.h"

namespace nibble::kernels {
namespace {

using testing::at_every_level;
using testing::Random;

constexpr DType kTypes[] = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3,
                            DType::kI64, DType::kI32, DType::kI16, DType::kI8,   DType::kU8};

// Zeros, the smallest and the largest values, and both signs of zero, at odd addresses and of any length.
TEST(ZeroBits, EqualADefinitionElementByElement) {
  Random random(5);
  at_every_level([&](CpuLevel) {
    for (const DType dtype : kTypes) {
      const std::size_t width = dtype_bytes(dtype);
      for (const std::int64_t count : {0, 1, 63, 64, 65, 300}) {
        std::vector<std::byte> bytes(static_cast<std::size_t>(count) * width + 1);
        std::vector<bool> is_zero;
        for (std::int64_t i = 0; i < count; ++i) {
          std::byte* element = bytes.data() + 1 + static_cast<std::size_t>(i) * width;
          const std::uint32_t kind = random.bits() % 5;
          if (kind == 1) element[width - 1] = std::byte{0x80};  // -0, or the least integer
          if (kind == 2) element[random.bits() % width] |= std::byte{1};
          if (kind == 3) std::memset(element, 0xff, width);
          is_zero.push_back(kind == 0 || kind == 4 || (kind == 1 && is_float(dtype)));
        }
        std::vector<std::uint64_t> words(static_cast<std::size_t>(zero_words(count)));
        zero_bits(dtype, bytes.data() + 1, count, words.data());
        for (std::size_t i = 0; i < 64 * words.size(); ++i) {
          const bool expected = i >= is_zero.size() || is_zero[i];
          ASSERT_EQ((words[i / 64] >> (i % 64)) & 1, expected ? 1u : 0u) << torch_name(dtype) << " " << i;
        }
      }
    }
  });
}

}  // namespace
}  // namespace nibble::kernels
