// SPDX-License-Identifier: Apache-2.0
// Sparsity per decoder layer with a given mean: OWL (2310.05175) by the share of outliers, DLP (2505.23807)
// by the median. Both look at A = |w| * a, a = the activation norm of the input channel.
#pragma once

#include <span>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"

namespace nibble {

struct ScoredWeight {
  const Matrix* weight = nullptr;
  std::span<const float> activation;  // a, one per column
};

// 100 * share of the entries of A above `owl_m` times their mean, over all weights of a decoder layer.
double outlier_ratio(std::span<const ScoredWeight> weights, double owl_m);

// Sum of A over its median, over all weights of a decoder layer.
double median_importance(std::span<const ScoredWeight> weights);

// Layers with more outliers keep more: densities span 2 * owl_lmbda around 1 - sparsity; equal ratios give
// exactly `sparsity`. Fails when a layer would leave [0, 1).
Result<std::vector<double>> owl_sparsities(std::span<const double> outlier_ratios, double sparsity,
                                           double owl_lmbda);

// Layers with larger median importance are pruned more, within 2 * alpha.
Result<std::vector<double>> dlp_sparsities(std::span<const double> importances, double sparsity,
                                           double alpha);

// Blocks whose pruning costs the model more divergence are pruned less, within `lmbda` of `sparsity`, with
// the given mean over `weights`. Where the cost of a block grows with its sparsity p as exp(10 p) (from 50 to
// 60 % Wanda's loss grows 2.6-fold on LLaMA-7B, 2306.11695), this is the cheapest choice: equal marginal
// costs.
std::vector<double> kl_sparsities(std::span<const double> divergences, std::span<const double> weights,
                                  double sparsity, double lmbda);

}  // namespace nibble
