// SPDX-License-Identifier: Apache-2.0
// Run-time layout of coded weights, and the kernels that read it.
//
// A strip is 16 rows (outputs). Columns go in chunks of 32; a chunk of b-bit codes is b vectors of 16 32-bit
// words, lane i for row i. A code is cut into planes of 8, 4, 2 and 1 bits (3 = 2 + 1, 5 = 4 + 1, 6 = 4 + 2,
// 7 = 4 + 2 + 1), the highest first; a plane of w bits takes w vectors, each with 32 / w consecutive columns,
// the first in the lowest bits. Nothing is wasted at any width and every extraction is a shift by a constant.
// Integers are stored as code + 2^(bits - 1). Columns are padded to whole chunks.
#pragma once

#include <cstdint>

namespace nibble::kernels::packed {

inline constexpr int kLanes = 16;
inline constexpr int kChunk = 32;
inline constexpr int kMaxBits = 8;
inline constexpr int kFusedTokens =
    2;  // up to here weights go from memory to the sums without a stop in between

enum class ScaleType : std::int32_t { kF32, kBf16, kF16 };

struct CodeStrip {
  const std::uint32_t* words;  // [chunk][bits][16]
  const void* scales;          // [group][16] of scale_type
  const std::uint8_t* zeros;   // [group][16], or null: symmetric
  const float* table;          // 16 values of a table code
  std::int64_t group_size;
  ScaleType scale_type;
};

struct CodeKernels {
  // out[k][16] for k in [first, first + depth); first is a multiple of kChunk.
  void (*fill)(const CodeStrip& strip, std::int64_t first, std::int64_t depth, float* out);
  // [tokens - 1]: c[token][16 s + lane] = sum over k of x[k][tokens] * strip s for two strips, in the order
  // of gemm (passes of gemm::kDepth); null: fill() and the tiles do it. With one strip left both are the same
  // and cols <= 16.
  void (*dot[kFusedTokens])(const CodeStrip* strips, std::int64_t depth, const float* x, float* c,
                            std::int64_t ldc, int cols, bool accumulate);
};

struct Kernels {
  CodeKernels integer[kMaxBits + 1];  // by bits; 0 and 1 are empty
  CodeKernels table;
  CodeKernels float8;
  // out[k][16] from 16-bit floats [k][16].
  void (*fill_f16)(const std::uint16_t* codes, std::int64_t depth, float* out);
  void (*fill_bf16)(const std::uint16_t* codes, std::int64_t depth, float* out);
};

extern const Kernels kPortable;
extern const Kernels kAvx2;
extern const Kernels kAvx512;

const Kernels& kernels();  // of the active level

}  // namespace nibble::kernels::packed
