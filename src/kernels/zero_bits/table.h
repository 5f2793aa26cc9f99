// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace nibble::kernels::zero_bits_of {

// Whole words only: 64 elements each, of 1, 2, 4 or 8 bytes. `bits` are those that make an element differ
// from zero (all but the sign of a float).
using WholeWords = void (*)(const void* elements, std::int64_t words, std::uint64_t bits, std::uint64_t* out);

struct Kernels {
  WholeWords of_1, of_2, of_4, of_8;
};

extern const Kernels kPortable;
extern const Kernels kAvx2;

}  // namespace nibble::kernels::zero_bits_of
