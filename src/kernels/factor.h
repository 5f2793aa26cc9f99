// SPDX-License-Identifier: Apache-2.0
// Factorisations of Hessians in fp64, and the inverse of well damped ones in fp32. All matrices are
// row-major; fp64 matrices are contiguous. Results do not depend on the number of threads. A matrix that is
// not positive definite is reported, never patched: the caller chooses the damping.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"

namespace nibble::kernels {

struct FactorResult {
  std::int64_t pivot =
      -1;  // the first pivot met that is not positive and finite: row and column of the matrix; -1: none
  double value = 0.0;  // what stands there after elimination
  bool ok() const { return pivot < 0; }
};

enum class Triangle { kLower, kUpper };

// h [n, n] symmetric -> U upper (zeros below) with h^-1 = U^T U, in place. Reads the upper triangle. h = V
// V^T with V upper (Cholesky from the last column to the first) gives U = V^-1: n^3 / 3 multiply-adds, no
// explicit inverse. Elimination runs from n - 1 down to 0. On failure h is left unspecified.
FactorResult inverse_factor(ThreadPool& pool, std::int64_t n, double* h);

// The same for an fp32 Hessian h + damping * I, computed in fp64 (8 n^2 bytes of work space), U rounded to
// fp32. u may be h. On failure u is untouched.
FactorResult inverse_factor(ThreadPool& pool, std::int64_t n, const float* h, std::int64_t ldh,
                            double damping, float* u, std::int64_t ldu);

// a [n, n] symmetric -> L lower (zeros above) with a = L L^T, in place. Reads the lower triangle.
FactorResult cholesky(ThreadPool& pool, std::int64_t n, double* a);

// Replaces every row x of b [rows, n] by the solution y of t y = x, or of t^T y = x if transposed. t is
// triangular with a non-zero diagonal; the other triangle is not read.
void solve_triangular(ThreadPool& pool, std::int64_t n, const double* t, Triangle triangle, bool transposed,
                      std::int64_t rows, double* b);

// Replaces every row x of b [rows, n] by the solution y of l l^T y = x, with l from cholesky().
void solve_factored(ThreadPool& pool, std::int64_t n, const double* l, std::int64_t rows, double* b);

// a [n, n] symmetric -> a^-1, both triangles, in place, in fp32 products: n^3 / 2 multiply-adds at their
// rate. Reads the upper triangle. The relative error is near 1e-7 times the condition of `a`: for Hessians
// whose damping is a good share of their mean diagonal. On failure a is left unspecified.
FactorResult invert_damped(ThreadPool& pool, std::int64_t n, float* a, std::int64_t lda);

}  // namespace nibble::kernels
