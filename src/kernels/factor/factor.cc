// SPDX-License-Identifier: Apache-2.0
#include "kernels/factor.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <mutex>

// LAPACK's own entry points: OpenBLAS carries them, its LAPACKE layer is not part of the serial library.
extern "C" {
void dpotrf_(const char* uplo, const int* n, double* a, const int* lda, int* info);
void dtrtri_(const char* uplo, const char* diag, const int* n, double* a, const int* lda, int* info);
void dtrsm_(const char* side, const char* uplo, const char* trans, const char* diag, const int* m,
            const int* n, const double* alpha, const double* a, const int* lda, double* b, const int* ldb);
}

namespace nibble::kernels {
namespace {

// The serial OpenBLAS of the distribution is built without locks around its buffers.
std::mutex blas_mutex;

void clear_triangle(std::int64_t n, double* a, Triangle triangle) {
  for (std::int64_t i = 0; i < n; ++i) {
    if (triangle == Triangle::kLower) {
      std::fill_n(a + i * n, i, 0.0);
    } else {
      std::fill(a + i * n + i + 1, a + (i + 1) * n, 0.0);
    }
  }
}

// a = L L^T, lower triangle. Column-major "U" is row-major lower.
FactorResult factor_lower(std::int64_t n, double* a) {
  if (n == 0) return {};
  const int order = static_cast<int>(n);
  int info = 0;
  const std::scoped_lock lock(blas_mutex);
  dpotrf_("U", &order, a, &order, &info);
  if (info > 0) return {info - 1, a[static_cast<std::int64_t>(info - 1) * (n + 1)]};
  // OpenBLAS takes a NaN pivot for a good one.
  for (std::int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(a[i * (n + 1)])) return {i, a[i * (n + 1)]};
  }
  return {};
}

}  // namespace

FactorResult cholesky(ThreadPool&, std::int64_t n, double* a) {
  const FactorResult result = factor_lower(n, a);
  if (result.ok()) clear_triangle(n, a, Triangle::kUpper);
  return result;
}

FactorResult inverse_factor(ThreadPool&, std::int64_t n, double* h) {
  // Reversing the order of rows and columns is reversing the array; it turns upper into lower.
  std::reverse(h, h + n * n);
  FactorResult result = factor_lower(n, h);
  if (!result.ok()) {
    result.pivot = n - 1 - result.pivot;
    return result;
  }
  if (n > 0) {
    const int order = static_cast<int>(n);
    int info = 0;
    const std::scoped_lock lock(blas_mutex);
    dtrtri_("U", "N", &order, h, &order, &info);
  }
  std::reverse(h, h + n * n);
  clear_triangle(n, h, Triangle::kLower);
  return result;
}

FactorResult inverse_factor(ThreadPool& pool, std::int64_t n, const float* h, std::int64_t ldh,
                            double damping, float* u, std::int64_t ldu) {
  const auto work = std::make_unique<double[]>(static_cast<std::size_t>(n * n));
  for (std::int64_t i = 0; i < n; ++i) {
    std::copy_n(h + i * ldh, n, work.get() + i * n);
    work[static_cast<std::size_t>(i * n + i)] += damping;
  }
  const FactorResult result = inverse_factor(pool, n, work.get());
  if (!result.ok()) return result;
  for (std::int64_t i = 0; i < n; ++i) {
    std::transform(work.get() + i * n, work.get() + (i + 1) * n, u + i * ldu,
                   [](double value) { return static_cast<float>(value); });
  }
  return result;
}

void solve_triangular(ThreadPool&, std::int64_t n, const double* t, Triangle triangle, bool transposed,
                      std::int64_t rows, double* b) {
  if (n == 0 || rows == 0) return;
  const int order = static_cast<int>(n), count = static_cast<int>(rows);
  const double one = 1.0;
  const std::scoped_lock lock(blas_mutex);
  dtrsm_("L", triangle == Triangle::kLower ? "U" : "L", transposed ? "N" : "T", "N", &order, &count, &one, t,
         &order, b, &order);
}

FactorResult solve_symmetric(ThreadPool& pool, std::int64_t n, double* a, std::int64_t rows, double* b) {
  const FactorResult result = factor_lower(n, a);
  if (!result.ok()) return result;
  solve_triangular(pool, n, a, Triangle::kLower, false, rows, b);
  solve_triangular(pool, n, a, Triangle::kLower, true, rows, b);
  return result;
}

}  // namespace nibble::kernels
