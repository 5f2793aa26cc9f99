// SPDX-License-Identifier: Apache-2.0
// The tensor types of GGUF files: ids, block sizes, and decoding to fp32, bit-equal to ggml. A tensor's rows
// are whole blocks, so the bytes of rows [a, b) are contiguous and decode on their own: split them over
// threads freely.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/error.h"

namespace nibble {

enum class GgufType : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ8_1 = 9,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kQ8_K = 15,
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ1_S = 19,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kIQ1_M = 29,
  kBF16 = 30,
  kTQ1_0 = 34,
  kTQ2_0 = 35,
  kMXFP4 = 39,
  kNVFP4 = 40,
};

struct GgufTypeInfo {
  GgufType type;
  std::string_view name;    // "Q4_K", as gguf-py and llama.cpp print it (in capitals)
  std::int64_t block_size;  // elements; rows are a multiple of it
  std::int64_t block_bytes;
  void (*decode)(const std::byte* blocks, std::int64_t count, float* out);
  // Null for types that nibble reads but does not write.
  void (*encode)(const float* row, std::int64_t count, const float* importance, std::byte* blocks);

  double bits_per_weight() const {
    return 8.0 * static_cast<double>(block_bytes) / static_cast<double>(block_size);
  }
};

std::span<const GgufTypeInfo> gguf_types();
// Null for an id that ggml has dropped or that is newer than this table.
const GgufTypeInfo* find_gguf_type(std::uint32_t id);
const GgufTypeInfo* find_gguf_type(std::string_view name);  // without regard to case
const GgufTypeInfo& gguf_type_info(GgufType type);

// Bytes of `elements` values; an error when they are not whole blocks or the size overflows.
Result<std::uint64_t> gguf_bytes(const GgufTypeInfo& type, std::uint64_t elements);

// Decodes out.size() elements (whole blocks). `bytes` holds exactly those blocks, at any alignment. Integers
// beyond 2^24 and F64 are rounded to the nearest float.
void decode_gguf_rows(GgufType type, std::span<const std::byte> bytes, std::span<float> out);

// Encodes one row (whole blocks) to out.size() bytes, byte for byte as ggml does. `importance` is empty or
// has the mean of x^2 for every column; types without a use for it ignore it. The type must have an encoder;
// values are finite.
void encode_gguf_row(GgufType type, std::span<const float> row, std::span<const float> importance,
                     std::span<std::byte> out);

}  // namespace nibble
