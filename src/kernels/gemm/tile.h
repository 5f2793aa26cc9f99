// SPDX-License-Identifier: Apache-2.0
// The inner kernels of the packed GEMM, one table per CPU level. Included by units with instruction-set
// flags: it declares types only.
//
// Packed forms: a *strip* is 16 columns of B as [k][16]; a *tile* is up to `mr` rows of A as [k][rows]. One
// call multiplies a tile by one or two strips over at most kDepth values of k. Each output element is one
// chain of fused multiply-adds in rising k, then one add to C: the result does not depend on where tiles
// begin.
#pragma once

#include <cstdint>

namespace nibble::kernels::gemm {

inline constexpr int kStrip = 16;    // columns of a strip
inline constexpr int kMaxRows = 14;  // rows of the largest tile of any level
// k per pass: a pair of strips (AVX-512) is 48 KiB, a strip (AVX2) 24 KiB, about the L1 cache.
inline constexpr int kDepth = 384;

// c[rows, cols] (= or +=) alpha * a * b; cols <= 16 * strips; strip s of b begins at b + s * strip_stride.
using TileFunction = void (*)(std::int64_t depth, const float* a, const float* b, std::int64_t strip_stride,
                              float* c, std::int64_t ldc, int cols, float alpha, bool accumulate);
// out[k * width + i] = source element (i, k) for i < count, 0 for count <= i < width; width is kStrip or <=
// mr.
using PackFunction = void (*)(const float* source, std::int64_t ld, int count, std::int64_t depth, float* out,
                              int width);

struct Kernels {
  int mr;                          // rows of a full tile
  int strips;                      // strips per call: 1 or 2
  TileFunction tile[kMaxRows][2];  // [rows - 1][strips - 1]; rows <= mr
  PackFunction pack_rows;          // element (i, k) at source[i * ld + k]
  PackFunction pack_columns;       // element (i, k) at source[k * ld + i]
};

extern const Kernels kPortable;
extern const Kernels kAvx2;
extern const Kernels kAvx512;

const Kernels& kernels();  // of the active level

}  // namespace nibble::kernels::gemm
