// SPDX-License-Identifier: Apache-2.0
// A mask for the layer objective with free weights, by ADMM between "least squares" and "sparse" (ALPS,
// 2406.07831):
//   B = (N + rho I)^-1 (N w - V + rho D),  D = the largest entries of B + V / rho,  V += rho (B - D)
// on the metric N with unit diagonal (columns scaled by the root of the diagonal). rho grows from rung to
// rung, one inverse each, instead of the eigenvectors of the paper, which cost ten times as much. The mask
// settles at rho near 0.7; how slowly rho grows up to there decides how good it is. D begins as a solution
// and V as what it would be if D were the limit, N (w - D): that saves the rungs below 0.4.
#pragma once

#include "base/error.h"
#include "base/tensor.h"
#include "base/thread_pool.h"
#include "modify/solver/mask.h"

namespace nibble::solver {

struct AdmmOptions {
  int iterations = 12;
  int iterations_per_rung = 4;
  double first_rho = 0.4;
  double last_rho = 0.7;  // rho grows by the same factor from rung to rung
};

struct SparseLayer {
  Matrix weight;
  Matrix keep;
};

// `start` is a sparse solution; `allowed` (or nullptr) marks with 0 the weights that must stay pruned. The
// result has as many zeros as the pattern asks for.
Result<SparseLayer> admm_mask(ThreadPool& pool, const Matrix& weight, const Matrix& metric,
                              const Matrix& start, const PrunePattern& pattern, const Matrix* allowed,
                              const AdmmOptions& options);

}  // namespace nibble::solver
