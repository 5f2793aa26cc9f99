// SPDX-License-Identifier: Apache-2.0
// The fp64 twins of kernels/gemm/tile.h for factorisations: a strip is 8 columns as [k][8], a tile up to `mr`
// rows as [k][rows]. Each output element is one chain of fused multiply-adds in rising k per pass of kDepth.
#pragma once

#include <cstdint>

namespace nibble::kernels::gemm64 {

inline constexpr int kStrip = 8;
inline constexpr int kMaxRows = 14;
inline constexpr int kDepth = 256;

// c[rows, cols] = alpha * a * b, or c + alpha * a * b.
using TileFunction = void (*)(std::int64_t depth, const double* a, const double* b, std::int64_t strip_stride,
                              double* c, std::int64_t ldc, int cols, double alpha, bool accumulate);
// out[k * width + i] = source element (i, k) for i < count, 0 for count <= i < width; width is kStrip or <=
// mr.
using PackFunction = void (*)(const double* source, std::int64_t ld, int count, std::int64_t depth,
                              double* out, int width);

struct Kernels {
  int mr;
  int strips;                      // strips per call: 1 or 2
  TileFunction tile[kMaxRows][2];  // [rows - 1][strips - 1]
  PackFunction pack_rows;          // element (i, k) at source[i * ld + k]
  PackFunction pack_columns;       // element (i, k) at source[k * ld + i]
  // x [size][8] becomes the solution of L y = x for 8 right-hand sides; t[k * size + i] = L(i, k) for i > k
  // and 1 / L(k, k) for i = k.
  void (*solve_strip)(int size, const double* t, double* x);
};

extern const Kernels kPortable;
extern const Kernels kAvx2;
extern const Kernels kAvx512;

const Kernels& kernels();  // of the active level

// One thread's product: c[m, n] = alpha * a[m, k] * op(b), or added to c. b is [n, k] (c = a b^T), or [k, n]
// if b_k_major. m is at most kMostRows.
inline constexpr std::int64_t kMostRows = 256;
struct Product {
  std::int64_t m, n, k;
  const double* a;
  std::int64_t lda;
  const double* b;
  std::int64_t ldb;
  bool b_k_major;
  double* c;
  std::int64_t ldc;
  double alpha;
  bool accumulate;
};
void multiply(const Kernels& kernel, const Product& product);

}  // namespace nibble::kernels::gemm64
