// SPDX-License-Identifier: Apache-2.0
// MagR (2406.00800): weights with smaller peaks and nearly the same outputs, found before quantization by
// proximal gradient steps on  1/2 (v - w) M (v - w)^T + strength * mean diag(M) * sum over units
// ||v_unit||_inf.
#pragma once

#include "base/tensor.h"
#include "base/thread_pool.h"
#include "modify/solver/grid.h"

namespace nibble {

struct MagrOptions {
  double strength = 1e-3;  // 1e-3 for rows, 1e-4 for groups (the paper's figures)
  int iterations = 50;     // each costs one product with the metric
};

Matrix reduce_magnitudes(ThreadPool& pool, const Matrix& weight, const Matrix& metric,
                         const solver::Units& units, const MagrOptions& options);

// The proximal step of threshold * ||v||_inf: v minus its projection on the l1 ball of radius `threshold`.
void shrink_peaks(std::span<float> v, double threshold);

}  // namespace nibble
