// SPDX-License-Identifier: Apache-2.0
// Portable tiles: separate multiply and add (the baseline has no fused form), half a strip at a time so that
// the sums stay in registers.
#include "kernels/gemm/pack.h"
#include "kernels/gemm/tile.h"

namespace nibble::kernels::gemm {
namespace {

constexpr int kRows = 4;
constexpr int kHalf = kStrip / 2;

template <int rows>
void half_strip(std::int64_t depth, const float* a, const float* b, float* c, std::int64_t ldc, int cols,
                float alpha, bool accumulate) {
  float sum[rows][kHalf] = {};
  for (std::int64_t k = 0; k < depth; ++k) {
    for (int r = 0; r < rows; ++r) {
      const float x = a[k * rows + r];
      for (int j = 0; j < kHalf; ++j) sum[r][j] += x * b[k * kStrip + j];
    }
  }
  for (int r = 0; r < rows; ++r) {
    for (int j = 0; j < cols; ++j) {
      float& out = c[r * ldc + j];
      out = accumulate ? out + alpha * sum[r][j] : alpha * sum[r][j];
    }
  }
}

template <int rows>
void tile(std::int64_t depth, const float* a, const float* b, std::int64_t, float* c, std::int64_t ldc,
          int cols, float alpha, bool accumulate) {
  half_strip<rows>(depth, a, b, c, ldc, cols < kHalf ? cols : kHalf, alpha, accumulate);
  if (cols > kHalf) half_strip<rows>(depth, a, b + kHalf, c + kHalf, ldc, cols - kHalf, alpha, accumulate);
}

void pack_rows(const float* source, std::int64_t ld, int count, std::int64_t depth, float* out, int width) {
  pack_rows_plainly(source, ld, count, 0, depth, out, width);
}

}  // namespace

const Kernels kPortable{
    kRows, 1, {{tile<1>}, {tile<2>}, {tile<3>}, {tile<4>}}, pack_rows, pack_columns_plainly};

}  // namespace nibble::kernels::gemm
