// SPDX-License-Identifier: Apache-2.0
// Codes as dense bit streams (compressed-tensors compressors/pack_quantized) and FP4 nibbles
// (compressors/nvfp4).
//
// Integer codes are stored as code + 2^(bits - 1). A row is one little-endian stream: element i is bits
// [i * bits, (i + 1) * bits), counted from the lowest bit of the first 32-bit word; unused bits of the last
// word are 0. Before version 0.17, widths that do not divide 32 were stored as floor(32 / bits) elements a
// word; readable only.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "base/error.h"
#include "base/tensor.h"
#include "base/thread_pool.h"

namespace nibble {

// 32-bit words of `count` elements.
std::int64_t packed_words(std::int64_t count, int bits);

// One row. `words` has packed_words(count, bits) elements. Codes are in [-2^(bits-1), 2^(bits-1)).
void pack_row(std::span<const std::int8_t> codes, int bits, std::span<std::uint32_t> words);
void unpack_row(std::span<const std::uint32_t> words, int bits, std::span<std::int8_t> codes);

// I8 [rows, cols] <-> I32 [rows, packed_words(cols)].
Tensor pack_codes(ThreadPool& pool, const Tensor& codes, int bits);
// I8 [rows, cols] <-> I32 [packed_words(rows), cols]: zero points.
Tensor pack_codes_dim0(const Tensor& codes, int bits);

enum class PackLayout {
  kDense,
  kWholeElements,  // before 0.17
};
// The layout that `words` 32-bit words a row of `count` elements can have; `hint` decides where both fit. An
// error when neither does.
Result<PackLayout> pack_layout(std::int64_t words, std::int64_t count, int bits,
                               PackLayout hint = PackLayout::kDense);

// The width of `packed` must fit `layout` (see pack_layout); bits 1 to 8.
Result<Tensor> unpack_codes(ThreadPool& pool, const Tensor& packed, int bits, std::int64_t cols,
                            PackLayout hint = PackLayout::kDense);
Result<Tensor> unpack_codes_dim0(const Tensor& packed, int bits, std::int64_t rows,
                                 PackLayout hint = PackLayout::kDense);

// E2M1 codes, one a byte, in U8 [rows, cols] <-> U8 [rows, cols / 2], the even column in the low nibble.
Result<Tensor> pack_nibbles(ThreadPool& pool, const Tensor& codes);
Tensor unpack_nibbles(ThreadPool& pool, const Tensor& packed);
void pack_nibble_row(std::span<const std::uint8_t> codes, std::span<std::uint8_t> packed);
void unpack_nibble_row(std::span<const std::uint8_t> packed, std::span<std::uint8_t> codes);

}  // namespace nibble
