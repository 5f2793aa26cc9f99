// SPDX-License-Identifier: Apache-2.0
// Packing element by element, for every level and both precisions: see PackFunction in tile.h. Included by
// units with instruction-set flags; all is internal to them.
#pragma once

#include <cstdint>

namespace nibble::kernels {
namespace {

// Element (i, k) at source[i * ld + k], for k from `first`.
template <class T>
void pack_rows_plainly(const T* source, std::int64_t ld, int count, std::int64_t first, std::int64_t depth,
                       T* out, int width) {
  for (std::int64_t k = first; k < depth; ++k) {
    for (int i = 0; i < count; ++i) out[k * width + i] = source[i * ld + k];
    for (int i = count; i < width; ++i) out[k * width + i] = T{};
  }
}

// Element (i, k) at source[k * ld + i].
template <class T>
void pack_columns_plainly(const T* source, std::int64_t ld, int count, std::int64_t depth, T* out,
                          int width) {
  for (std::int64_t k = 0; k < depth; ++k) {
    for (int i = 0; i < count; ++i) out[k * width + i] = source[k * ld + i];
    for (int i = count; i < width; ++i) out[k * width + i] = T{};
  }
}

}  // namespace
}  // namespace nibble::kernels
