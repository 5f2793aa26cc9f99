// SPDX-License-Identifier: Apache-2.0
#include "kernels/zero_bits.h"

#include <array>
#include <cstring>

#include "base/check.h"
#include "kernels/level_table.h"
#include "kernels/zero_bits/table.h"

namespace nibble::kernels {
namespace {

const zero_bits_of::Kernels& kernels() {
  using zero_bits_of::Kernels;
#if defined(__x86_64__)
  static constexpr LevelTable<Kernels> kTables{&zero_bits_of::kPortable, &zero_bits_of::kAvx2, nullptr,
                                               nullptr};
#else
  static constexpr LevelTable<Kernels> kTables{&zero_bits_of::kPortable, nullptr, nullptr, nullptr};
#endif
  return pick_level(kTables);
}

zero_bits_of::WholeWords kernel_of(std::size_t width) {
  const zero_bits_of::Kernels& table = kernels();
  switch (width) {
    case 1:
      return table.of_1;
    case 2:
      return table.of_2;
    case 4:
      return table.of_4;
    default:
      CHECK(width == 8, "an element of another size");
      return table.of_8;
  }
}

}  // namespace

void zero_bits(DType dtype, const std::byte* bytes, std::int64_t count, std::uint64_t* words) {
  const std::size_t width = dtype_bytes(dtype);
  if (dtype == DType::kF8E8M0) {  // powers of two: there is no zero
    for (std::int64_t w = 0; w < zero_words(count); ++w) words[w] = 0;
    if (count % 64 != 0) words[count / 64] = ~std::uint64_t{0} << (count % 64);
    return;
  }
  const std::uint64_t all = width == 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * width)) - 1;
  const zero_bits_of::WholeWords whole_words = kernel_of(width);
  const std::int64_t whole = count / 64;
  const std::uint64_t bits = is_float(dtype) ? all >> 1 : all;
  whole_words(bytes, whole, bits, words);
  if (count % 64 == 0) return;
  std::array<std::byte, 64 * sizeof(double)> rest{};
  std::memcpy(rest.data(), bytes + static_cast<std::size_t>(64 * whole) * width,
              static_cast<std::size_t>(count % 64) * width);
  whole_words(rest.data(), 1, bits, words + whole);
}

}  // namespace nibble::kernels
