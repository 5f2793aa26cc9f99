// SPDX-License-Identifier: Apache-2.0
// AWQ (2306.00978): a scale per input channel, shared by the layers that read it (the balance layers), that
// makes their quantization hurt less. The candidates and their arithmetic are llm-compressor's
// (modifiers/transform/awq/base.py); the loss is the caller's: the parent module's output error as in the
// reference, or the exact layer error from the Hessian.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "base/error.h"
#include "base/tensor.h"
#include "base/thread_pool.h"
#include "calibrate/hessian.h"
#include "codec/scheme.h"
#include "modify/solver/grid.h"

namespace nibble {

enum class DuoScaling { kOff, kOn, kBoth };  // false, true, "both"

struct AwqCandidate {
  double ratio = 0;
  bool duo = false;  // the weights' mean takes part
};

// In the order of the search; the first, ratio 0 without duo, is no scaling at all.
Result<std::vector<AwqCandidate>> awq_candidates(DuoScaling duo_scaling, std::int64_t n_grid);

struct BalanceLayer {
  const Matrix* weight = nullptr;
  const QuantizationArgs* args =
      nullptr;       // null: not quantized (a router); scaled, but no part of the search
  int siblings = 0;  // tensor_group layers with the same number share a global scale
};

// Per input channel the mean of |w| / (largest |w| of its quantization unit) over all rows of all layers.
// Fails for per-tensor schemes, as in the reference.
Result<std::vector<float>> awq_weight_means(std::span<const BalanceLayer> layers, DType model_dtype);

// `activation_mean` = E|x| per channel; `weight_mean` may be empty without duo.
std::vector<float> awq_scales(std::span<const float> activation_mean, std::span<const float> weight_mean,
                              const AwqCandidate& candidate);

// What a layer would compute with: Q(w s) / s with min-max scales, rounded to the model's type; layers
// without args as they are.
Result<std::vector<Matrix>> awq_simulate(ThreadPool& pool, std::span<const BalanceLayer> layers,
                                         std::span<const float> scales, DType model_dtype);

// The loss of the balance layers replaced by `weights`.
using BalanceLoss = std::function<Result<double>(std::span<const Matrix> weights)>;

// sum over layers of tr((q - w) H (q - w)^T): the output error on all calibration tokens without a forward
// pass.
BalanceLoss hessian_loss(ThreadPool& pool, std::span<const BalanceLayer> layers, const Hessian& hessian);

struct AwqChoice {
  std::vector<float> scales;
  AwqCandidate candidate;
  double loss = 0;
  double loss_without = 0;  // of no scaling
};

// The first of the candidates with the smallest loss. Fails when no loss is finite.
Result<AwqChoice> awq_search(ThreadPool& pool, std::span<const BalanceLayer> layers,
                             std::span<const float> activation_mean, std::span<const AwqCandidate> candidates,
                             DType model_dtype, const BalanceLoss& loss);

struct ClipOptions {
  int steps = 10;          // candidate ranges
  double narrowest = 0.5;  // share of the min-max range that is not reached (the last is one step wider)
};

// Scales of narrower ranges for plain rounding, each unit's the one with the smallest e_g H_gg e_g^T (the
// paper's clip search without sampling tokens). Units of single rows.
Result<QuantParams> awq_clip(ThreadPool& pool, const Matrix& weight, const Hessian& hessian,
                             const QuantizationArgs& args, DType model_dtype, float global_scale,
                             const ClipOptions& options);

}  // namespace nibble
