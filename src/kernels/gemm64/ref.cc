// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/pack.h"
#include "kernels/gemm64/solve.h"
#include "kernels/gemm64/tile.h"

namespace nibble::kernels::gemm64 {
namespace {

constexpr int kRows = 2;

template <int rows>
void tile(std::int64_t depth, const double* a, const double* b, std::int64_t, double* c, std::int64_t ldc,
          int cols, double alpha, bool accumulate) {
  double sum[rows][kStrip] = {};
  for (std::int64_t k = 0; k < depth; ++k) {
    for (int r = 0; r < rows; ++r) {
      const double x = a[k * rows + r];
      for (int j = 0; j < kStrip; ++j) sum[r][j] += x * b[k * kStrip + j];
    }
  }
  for (int r = 0; r < rows; ++r) {
    for (int j = 0; j < cols; ++j) {
      double& out = c[r * ldc + j];
      out = accumulate ? out + alpha * sum[r][j] : alpha * sum[r][j];
    }
  }
}

void pack_rows(const double* source, std::int64_t ld, int count, std::int64_t depth, double* out, int width) {
  pack_rows_plainly(source, ld, count, 0, depth, out, width);
}

}  // namespace

const Kernels kPortable{kRows, 1, {{tile<1>}, {tile<2>}}, pack_rows, pack_columns_plainly, solve_strip};

}  // namespace nibble::kernels::gemm64
