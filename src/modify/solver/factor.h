// SPDX-License-Identifier: Apache-2.0
// The inverse factor every error-compensating solver runs on: U upper triangular with (H + lambda I)^-1 = U^T
// U. A failed factorisation raises the damping tenfold, visibly in the result: never a silent fall back to
// rounding.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"
#include "base/thread_pool.h"

namespace nibble::solver {

// What stabilised a Hessian before it was factored.
struct Damping {
  double requested_frac = 0;  // lambda as a share of the mean diagonal
  double used_frac = 0;       // differs from requested_frac after failed factorisations
  int raises = 0;
};

struct InverseFactor {
  Matrix u;  // in the order of the columns that was asked for
  Damping damping;
  double lambda = 0;
};

// Channels that were 0 on all calibration tokens.
std::vector<std::int32_t> dead_columns(const Matrix& hessian);

// `weight` with 0 in the dead channels of the Hessian.
Matrix zero_dead_columns(Matrix weight, const Matrix& hessian);

// The diagonal of the Hessian; dead channels have the mean of the others (1 when there are none).
std::vector<float> live_diagonal(const Matrix& hessian);

// The Hessian, times `scale`, with `dead_value` on the diagonal of dead channels; 0: live_diagonal().
Matrix without_dead(const Matrix& hessian, double scale, double dead_value);

// lambda = frac * mean of the diagonal.
double damping_lambda(const Matrix& hessian, double frac);

// Of `hessian` (no dead channels) with rows and columns in `order` (position -> column). Fails only if no
// damping up to 1000 times the mean diagonal makes the matrix positive definite.
Result<InverseFactor> inverse_factor(ThreadPool& pool, const Matrix& hessian,
                                     std::span<const std::int32_t> order, double dampening_frac);

// (H + lambda I)^-1 with the live_diagonal(), in fp32 at the rate of products. For a lambda that keeps the
// condition low: errors are 1e-7 times that. Fails if H + lambda I is not positive definite.
Result<Matrix> damped_inverse(ThreadPool& pool, const Matrix& hessian, double lambda);

}  // namespace nibble::solver
