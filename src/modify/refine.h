// SPDX-License-Identifier: Apache-2.0
// Improves a quantized layer after the sweep (algorithms A3-3, A3-4): coordinate descent over the codes and
// closed-form scales, in turns. Every step lowers sum over rows of (w - q) M (w - q)^T, or leaves things as
// they are. M is the damped Hessian: its ridge towards w keeps the search from overfitting the calibration
// tokens.
#pragma once

#include "base/tensor.h"
#include "base/thread_pool.h"
#include "modify/solver/grid.h"

namespace nibble {

struct RefineOptions {
  int rounds = 2;            // 0: off
  int sweeps = 2;            // of coordinate descent per round
  bool refit_scales = true;  // after the sweeps of each round; schemes with units of single rows
};

// `codes`, `quantized` and `params` are updated; `keep` (or nullptr) marks with 0 the weights that stay 0.
void refine(ThreadPool& pool, const Matrix& weight, const Matrix& metric, const solver::LayerGrid& grid,
            const Matrix* keep, const RefineOptions& options, Matrix& codes, Matrix& quantized,
            QuantParams& params);

}  // namespace nibble
