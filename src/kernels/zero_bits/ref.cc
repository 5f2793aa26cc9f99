// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "kernels/zero_bits/table.h"

namespace nibble::kernels::zero_bits_of {
namespace {

template <class T>
void whole_words(const void* elements, std::int64_t words, std::uint64_t bits, std::uint64_t* out) {
  const auto* from = static_cast<const char*>(elements);
  for (std::int64_t w = 0; w < words; ++w) {
    T values[64];
    std::memcpy(values, from + static_cast<std::size_t>(w) * sizeof(values), sizeof(values));
    std::uint64_t word = 0;
    for (int i = 0; i < 64; ++i) word |= std::uint64_t{(values[i] & static_cast<T>(bits)) == 0} << i;
    out[w] = word;
  }
}

}  // namespace

const Kernels kPortable{.of_1 = whole_words<std::uint8_t>,
                        .of_2 = whole_words<std::uint16_t>,
                        .of_4 = whole_words<std::uint32_t>,
                        .of_8 = whole_words<std::uint64_t>};

}  // namespace nibble::kernels::zero_bits_of
