// SPDX-License-Identifier: Apache-2.0
#include "modify/sparsegpt.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "modify/solver/admm_mask.h"
#include "modify/solver/check_input.h"
#include "modify/solver/loss.h"
#include "modify/solver/mask.h"
#include "modify/solver/masked_solve.h"
#include "modify/solver/order.h"
#include "modify/solver/prune_sweep.h"

namespace nibble {
namespace {

// `allowed` is empty where nothing has to stay pruned.
Status check_request(const Matrix& weight, const Hessian& hessian, const Matrix& allowed,
                     const SparseGptOptions& options) {
  TRY(solver::check_layer(weight, hessian.values));
  TRY(check_pattern(options.pattern, weight.cols()));
  if (allowed.empty() || options.pattern.is_structured()) return {};
  const double zeros = zero_share(allowed);
  if (zeros <= options.pattern.sparsity) return {};
  return usage_error(fmt::format("{:.2f} % of the weights are zero already, the target is {:.2f} %",
                                 100 * zeros, 100 * options.pattern.sparsity),
                     "raise `sparsity`, or leave out preserve_sparsity_mask");
}

// The recursion's mask and weights as a start, and ADMM from there.
Result<solver::SparseLayer> find_mask(ThreadPool& pool, const Matrix& weight, const Matrix& plain,
                                      const Matrix& metric, const Matrix* allowed,
                                      const PruneOptions& options, solver::Damping& damping) {
  TRY_ASSIGN(
      const solver::InverseFactor factor,
      solver::inverse_factor(pool, plain, solver::natural_order(weight.cols()), options.dampening_frac));
  damping = factor.damping;
  solver::PruneSweepResult swept = solver::prune_sweep(
      pool,
      {.u = &factor.u, .pattern = options.pattern, .block_size = options.block_size, .allowed = allowed},
      weight);
  solver::SparseLayer layer{.weight = std::move(swept.weight), .keep = std::move(swept.keep)};
  if (options.mask_iterations == 0) return layer;
  return solver::admm_mask(pool, weight, metric, layer.weight, options.pattern, allowed,
                           {.iterations = options.mask_iterations});
}

}  // namespace

Result<SparsityResult> sparsegpt_reference(ThreadPool& pool, const Matrix& weight, const Hessian& hessian,
                                           const SparseGptOptions& options) {
  const Matrix allowed = options.preserve_sparsity_mask ? nonzero_mask(weight) : Matrix();
  TRY(check_request(weight, hessian, allowed, options));
  const Matrix metric = solver::without_dead(hessian.values, hessian.reference_scale(), 1.0);
  TRY_ASSIGN(
      const solver::InverseFactor factor,
      solver::inverse_factor(pool, metric, solver::natural_order(weight.cols()), options.dampening_frac));
  solver::PruneSweepResult swept = solver::prune_sweep(pool,
                                                       {.u = &factor.u,
                                                        .pattern = options.pattern,
                                                        .block_size = options.block_size,
                                                        .as_reference = true,
                                                        .allowed = allowed.empty() ? nullptr : &allowed},
                                                       solver::zero_dead_columns(weight, hessian.values));
  return SparsityResult{.weight = std::move(swept.weight),
                        .keep = std::move(swept.keep),
                        .loss = swept.loss / 2,
                        .damping = factor.damping};
}

Result<SparsityResult> prune(ThreadPool& pool, const Matrix& weight, const Hessian& hessian,
                             const PruneOptions& options) {
  const Matrix allowed = options.allowed                  ? *options.allowed
                         : options.preserve_sparsity_mask ? nonzero_mask(weight)
                                                          : Matrix();
  TRY(check_request(weight, hessian, allowed, options));
  const Matrix plain = solver::without_dead(hessian.values, 1.0, 0.0);
  Matrix metric = plain;
  const double lambda = solver::damping_lambda(plain, options.dampening_frac);
  for (std::int64_t c = 0; c < metric.rows(); ++c) metric.at(c, c) += static_cast<float>(lambda);
  const Matrix target = solver::zero_dead_columns(weight, hessian.values);
  SparsityResult result;
  if (options.mask != nullptr) {
    result.weight = target;
    result.keep = *options.mask;
  } else {
    TRY_ASSIGN(solver::SparseLayer layer,
               find_mask(pool, target, plain, metric, allowed.empty() ? nullptr : &allowed, options,
                         result.damping));
    result.weight = std::move(layer.weight);
    result.keep = std::move(layer.keep);
  }
  if (options.solve_iterations > 0 || options.mask != nullptr) {
    solver::masked_solve(pool, target, metric, result.keep, options.solve_iterations, result.weight);
  }
  result.loss = solver::layer_loss(pool, result.weight, weight, hessian.values);
  return result;
}

}  // namespace nibble
