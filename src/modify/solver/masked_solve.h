// SPDX-License-Identifier: Apache-2.0
// Least squares on the kept weights: for every row the minimum of (w - v) M (w - v)^T over v that is 0 where
// the mask is, by conjugate gradients with the diagonal as preconditioner, all rows at once (as in ALPS,
// 2406.07831).
#pragma once

#include "base/tensor.h"
#include "base/thread_pool.h"

namespace nibble::solver {

// Improves `solution` in place (its pruned entries are set to 0 first). No row ends worse than it began.
void masked_solve(ThreadPool& pool, const Matrix& weight, const Matrix& metric, const Matrix& keep,
                  int iterations, Matrix& solution);

}  // namespace nibble::solver
