// SPDX-License-Identifier: Apache-2.0
// Blocked fp64 factorisations on the tiles of gemm64. Every element's sum runs in an order that the sizes
// fix: work is split by rows or columns of the result.
#include "kernels/factor.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "kernels/factor/triangular.h"
#include "kernels/gemm64/tile.h"

namespace nibble::kernels {
namespace {

using factor::kBlock;
using factor::Triangular;
using gemm64::Kernels;

// Rows of a task: 12 tiles of 14; 168 x 256 doubles stay in the L2 cache.
constexpr std::int64_t kTaskRows = 168;
static_assert(kTaskRows <= gemm64::kMostRows);

// Columns of a panel. Its own factorisation is serial, so small matrices get narrow ones; wide ones pack each
// row of the matrix less often.
std::int64_t panel_width(std::int64_t n) {
  return n < 2048 ? 128 : 256;
}

// Cholesky of a block of at most kBlock columns, in place; its rows are k-contiguous.
FactorResult factor_small(std::int64_t n, double* a, std::int64_t ld) {
  double t[kBlock][kBlock];  // t[k][i] = L(i, k): contiguous inner loops
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t k = 0; k <= i; ++k) t[k][i] = a[i * ld + k];
  }
  for (std::int64_t k = 0; k < n; ++k) {
    if (!(t[k][k] > 0.0) || !std::isfinite(t[k][k])) return {k, t[k][k]};
    t[k][k] = std::sqrt(t[k][k]);
    for (std::int64_t i = k + 1; i < n; ++i) t[k][i] /= t[k][k];
    for (std::int64_t j = k + 1; j < n; ++j) {
      for (std::int64_t i = j; i < n; ++i) t[j][i] -= t[k][j] * t[k][i];
    }
  }
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t k = 0; k <= i; ++k) a[i * ld + k] = t[k][i];
  }
  return {};
}

// Left-looking Cholesky of a lower triangle in place, panel by panel: a[j:, j] -= L[j:, :j] L[j, :j]^T, then
// the diagonal block, then the rows below it. The diagonal block is factored the same way with panels of
// kBlock, serially.
FactorResult factor_lower(ThreadPool* pool, std::int64_t n, double* a, std::int64_t ld, std::int64_t panel) {
  const Kernels& kernel = gemm64::kernels();
  const auto for_rows = [&](std::int64_t count, const auto& body) {
    if (pool != nullptr) return pool->parallel_for(count, kTaskRows, body);
    for (std::int64_t first = 0; first < count; first += kTaskRows)
      body(first, std::min(first + kTaskRows, count));
  };
  for (std::int64_t j = 0; j < n; j += panel) {
    const std::int64_t width = std::min(panel, n - j), below = j + width;
    double* diagonal = a + j * ld + j;
    if (j > 0) {
      for_rows(n - j, [&](std::int64_t first, std::int64_t last) {
        gemm64::multiply(kernel, {last - first, width, j, a + (j + first) * ld, ld, a + j * ld, ld, false,
                                  diagonal + first * ld, ld, -1.0, true});
      });
    }
    FactorResult result = width <= kBlock ? factor_small(width, diagonal, ld)
                                          : factor_lower(nullptr, width, diagonal, ld, kBlock);
    if (!result.ok()) return {j + result.pivot, result.value};
    const Triangular solver(kernel, diagonal, ld, width, Triangle::kLower, false);
    for_rows(n - below, [&](std::int64_t first, std::int64_t last) {
      solver.solve(last - first, a + (below + first) * ld + j, ld);
    });
  }
  return {};
}

void clear_above_diagonal(ThreadPool& pool, std::int64_t n, double* a) {
  pool.parallel_for(n, 64, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) std::fill(a + i * n + i + 1, a + (i + 1) * n, 0.0);
  });
}

// Inverse of a lower block: rows of the identity solved with the transpose are rows of L^-1.
std::vector<double> invert_block(const Kernels& kernel, std::int64_t size, const double* l, std::int64_t ld) {
  std::vector<double> inverse(static_cast<std::size_t>(size * size));
  for (std::int64_t i = 0; i < size; ++i) inverse[static_cast<std::size_t>(i * size + i)] = 1.0;
  Triangular(kernel, l, ld, size, Triangle::kLower, true).solve(size, inverse.data(), size);
  return inverse;
}

// L^-1 in place of L (zeros above both). Block row i of X = L^-1: X_ii = L_ii^-1, X_ij = -X_ii sum_k L_ik
// X_kj with j <= k < i; rows above are finished and row i of L is needed by row i only.
void invert_lower(ThreadPool& pool, std::int64_t n, double* a) {
  const Kernels& kernel = gemm64::kernels();
  const std::int64_t panel = panel_width(n);
  std::vector<double> sums(static_cast<std::size_t>(std::min(panel, n) * n));
  for (std::int64_t i = 0; i < n; i += panel) {
    const std::int64_t height = std::min(panel, n - i);
    const std::vector<double> diagonal = invert_block(kernel, height, a + i * n + i, n);
    pool.parallel_for(i, 128, [&](std::int64_t first, std::int64_t last) {
      gemm64::multiply(kernel, {height, last - first, i - first, a + i * n + first, n, a + first * n + first,
                                n, true, sums.data() + first, n, 1.0, false});
    });
    pool.parallel_for(i, panel, [&](std::int64_t first, std::int64_t last) {
      gemm64::multiply(kernel, {height, last - first, height, diagonal.data(), height, sums.data() + first, n,
                                true, a + i * n + first, n, -1.0, false});
    });
    for (std::int64_t r = 0; r < height; ++r)
      std::copy_n(diagonal.data() + r * height, r + 1, a + (i + r) * n + i);
  }
}

// Both orders of rows and columns reversed: the array reversed. It turns upper into lower.
void reverse(ThreadPool& pool, std::int64_t n, double* a) {
  const std::int64_t size = n * n;
  pool.parallel_for(size / 2, std::int64_t{1} << 16, [&](std::int64_t first, std::int64_t last) {
    std::swap_ranges(a + first, a + last, std::make_reverse_iterator(a + (size - first)));
  });
}

FactorResult invert_reversed(ThreadPool& pool, std::int64_t n, double* h) {
  FactorResult result = factor_lower(&pool, n, h, n, panel_width(n));
  if (!result.ok()) {
    result.pivot = n - 1 - result.pivot;
    return result;
  }
  clear_above_diagonal(pool, n, h);
  invert_lower(pool, n, h);
  return result;
}

}  // namespace

FactorResult cholesky(ThreadPool& pool, std::int64_t n, double* a) {
  const FactorResult result = factor_lower(&pool, n, a, n, panel_width(n));
  if (result.ok()) clear_above_diagonal(pool, n, a);
  return result;
}

FactorResult inverse_factor(ThreadPool& pool, std::int64_t n, double* h) {
  reverse(pool, n, h);
  const FactorResult result = invert_reversed(pool, n, h);
  if (result.ok()) reverse(pool, n, h);
  return result;
}

FactorResult inverse_factor(ThreadPool& pool, std::int64_t n, const float* h, std::int64_t ldh,
                            double damping, float* u, std::int64_t ldu) {
  const std::unique_ptr<double[]> work(new double[static_cast<std::size_t>(n * n)]);
  pool.parallel_for(n, 16, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      double* row = work.get() + (n - 1 - i) * n;
      std::copy_n(h + i * ldh, n, std::make_reverse_iterator(row + n));
      row[n - 1 - i] += damping;
    }
  });
  const FactorResult result = invert_reversed(pool, n, work.get());
  if (!result.ok()) return result;
  pool.parallel_for(n, 16, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const double* row = work.get() + (n - 1 - i) * n;
      for (std::int64_t j = 0; j < n; ++j) u[i * ldu + j] = static_cast<float>(row[n - 1 - j]);
    }
  });
  return result;
}

void solve_triangular(ThreadPool& pool, std::int64_t n, const double* t, Triangle triangle, bool transposed,
                      std::int64_t rows, double* b) {
  const Triangular solver(gemm64::kernels(), t, n, n, triangle, transposed);
  pool.parallel_for(rows, kTaskRows, [&](std::int64_t first, std::int64_t last) {
    solver.solve(last - first, b + first * n, n);
  });
}

void solve_factored(ThreadPool& pool, std::int64_t n, const double* l, std::int64_t rows, double* b) {
  solve_triangular(pool, n, l, Triangle::kLower, false, rows, b);
  solve_triangular(pool, n, l, Triangle::kLower, true, rows, b);
}

}  // namespace nibble::kernels
