// SPDX-License-Identifier: Apache-2.0
// SparseGPT on one layer (Frantar and Alistarh, 2301.00774), in two modes: the reference's recursion, and our
// own: the recursion's mask as a start, an ADMM mask for free weights, and exact least squares on what is
// kept.
#pragma once

#include "base/error.h"
#include "base/tensor.h"
#include "base/thread_pool.h"
#include "calibrate/hessian.h"
#include "modify/solver/factor.h"
#include "modify/solver/mask.h"

namespace nibble {

struct SparsityResult {
  Matrix weight;
  Matrix keep;      // 1 kept, 0 pruned
  double loss = 0;  // see the functions
  solver::Damping damping;
};

struct SparseGptOptions {
  PrunePattern pattern;
  double dampening_frac = 0.01;
  std::int64_t block_size = 128;
  bool preserve_sparsity_mask = false;  // weights that are 0 already stay 0
};

// llm-compressor's result: dead channels zeroed, at least one weight too many pruned per block
// (unstructured). `loss` is the reference's: the sum of ((w - q) / u_jj)^2 with its scaling of the Hessian.
// Two deviations: a Hessian that cannot be factored gets more damping, and preserved zeros are looked up in
// their own column (the reference looks in the first block's).
Result<SparsityResult> sparsegpt_reference(ThreadPool& pool, const Matrix& weight, const Hessian& hessian,
                                           const SparseGptOptions& options);

struct PruneOptions : SparseGptOptions {
  int mask_iterations = 12;  // of ADMM; 0: the recursion's mask
  int solve_iterations = 3;  // of least squares on the kept weights; 0: the recursion's (or ADMM's) weights
  // A mask chosen beforehand (1 kept): only the weights are solved for.
  const Matrix* mask = nullptr;
  // Weights with 0 stay pruned; where the target was shifted, they are not zero in it. Null with
  // preserve_sparsity_mask: those that are zero in `weight`.
  const Matrix* allowed = nullptr;
};

// Our own. `weight` may be a shifted target (target_shift.h), `hessian` may be centred. The number of zeros
// is the rounded target exactly (n:m: per group), more only where a preserved mask has more. `loss` is the
// sum over rows of (w - q) H (w - q)^T: with H the mean over tokens, the squared output error per token.
Result<SparsityResult> prune(ThreadPool& pool, const Matrix& weight, const Hessian& hessian,
                             const PruneOptions& options);

}  // namespace nibble
