// SPDX-License-Identifier: Apache-2.0
// Which elements of an array are zero, 64 to a word: the mask of a pruned weight, as fast as it can be read.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace nibble::kernels {

inline std::int64_t zero_words(std::int64_t count) {
  return (count + 63) / 64;
}

// Bit j of words[i]: element 64 i + j is zero. -0 is zero, NaN is not. Bits behind the last element are set,
// as if zeros filled up the word. `bytes` holds `count` elements at any alignment.
void zero_bits(DType dtype, const std::byte* bytes, std::int64_t count, std::uint64_t* words);

}  // namespace nibble::kernels
