// SPDX-License-Identifier: Apache-2.0
// Wanda (2306.11695): prunes by |w| * sqrt(E[x^2]) without changing the other weights; and a better mask for
// the same purpose by swaps.
#pragma once

#include <span>

#include "base/error.h"
#include "base/tensor.h"
#include "base/thread_pool.h"
#include "modify/solver/mask.h"

namespace nibble {

// |w_rc| * sqrt(mean_square_c). Any common factor of the mean squares gives the same masks.
Matrix wanda_scores(ThreadPool& pool, const Matrix& weight, std::span<const float> mean_square);

// The mask of llm-compressor: floor(cols * sparsity) of every row, or n of every m consecutive weights.
Result<Matrix> wanda_mask(ThreadPool& pool, const Matrix& weight, std::span<const float> mean_square,
                          const PrunePattern& pattern);

struct SwapOptions {
  int swaps_per_row = 1000;
  // Without groups: pruned and kept weights looked at per swap, the most promising of each; 0: all (quadratic
  // in the columns).
  int candidates = 16;
};

// Exchanges pruned for kept weights of the same row (of the same group with n:m) while that lowers
// (w - q) H (w - q)^T, where q is w under the mask: what pruning without an update costs (SparseSwaps,
// 2512.10922). Each swap is the best of its candidates (of its group) and the loss of a row never rises.
// Counts per row stay.
void improve_mask(ThreadPool& pool, const Matrix& weight, const Matrix& hessian, const PrunePattern& pattern,
                  const SwapOptions& options, Matrix& keep);

// weight under the mask.
Matrix masked(const Matrix& weight, const Matrix& keep);

}  // namespace nibble
