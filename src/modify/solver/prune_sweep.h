// SPDX-License-Identifier: Apache-2.0
// SparseGPT's recursion (2301.00774): columns from first to last, the cheapest w^2 / u_jj^2 of each block
// (over all rows) or of each n:m group pruned, their error pushed on to later columns.
#pragma once

#include <vector>

#include "base/tensor.h"
#include "base/thread_pool.h"
#include "modify/solver/mask.h"

namespace nibble::solver {

struct PruneSweepPlan {
  const Matrix* u = nullptr;  // upper factor, natural order
  PrunePattern pattern;
  std::int64_t block_size = 128;  // rounded up to whole n:m groups
  // Two habits of the reference. Unstructured, it prunes every score up to the one at rank floor(count *
  // sparsity) of a block, so at least one too many; otherwise the counts of the blocks add up to the rounded
  // target. And weights pruned beforehand take no error from earlier blocks.
  bool as_reference = false;
  const Matrix* allowed = nullptr;  // [rows, cols]: weights with 0 stay pruned
};

struct PruneSweepResult {
  Matrix weight;
  Matrix keep;
  double loss = 0;  // sum of ((w - q) / u_jj)^2
};

PruneSweepResult prune_sweep(ThreadPool& pool, const PruneSweepPlan& plan, const Matrix& weight);

}  // namespace nibble::solver
