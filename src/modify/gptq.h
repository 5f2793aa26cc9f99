// SPDX-License-Identifier: Apache-2.0
// GPTQ on one layer (Frantar et al., 2210.17323), in two modes. gptq_reference follows llm-compressor: scales
// from its observer, min-max unless asked otherwise, natural or activation order. gptq is our own default
// (algorithms A3).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/dtype.h"
#include "base/error.h"
#include "base/tensor.h"
#include "base/thread_pool.h"
#include "calibrate/hessian.h"
#include "codec/scheme.h"
#include "modify/refine.h"
#include "modify/solver/factor.h"
#include "modify/solver/grid.h"

namespace nibble {

struct GptqResult {
  Matrix weight;  // dequantized: (codes - zero point) * scale, in the precision of the reference
  Matrix codes;   // integers, or values of the fp8 / fp4 grid
  QuantParams params;
  std::vector<std::int32_t> group_index;  // weight_g_idx of act-order `group`; else empty
  double loss = 0;                        // see the two functions
  solver::Damping damping;
};

struct GptqReferenceOptions {
  std::int64_t block_size = 128;
  double dampening_frac = 0.01;
  DType model_dtype = DType::kF32;
  // Act-order `group` fits the scales to the permuted weight: the observer that made `params` for the natural
  // order. Only called for that order.
  std::function<Result<QuantParams>(const Matrix& weight)> observe;
};

// `params` are the observer's, [scale rows, scale cols] of the strategy. Fails on weights that are not finite
// and on Hessians that no damping makes positive definite.
// `loss` is the reference's: half the sum of ((w - q) / u_jj)^2 with its scaling of the Hessian.
Result<GptqResult> gptq_reference(ThreadPool& pool, const Matrix& weight, const Hessian& hessian,
                                  const QuantizationArgs& args, const QuantParams& params,
                                  const GptqReferenceOptions& options);

enum class ColumnOrder {
  kNatural,
  kGroups,  // groups by their loudest channel, channels within a group by loudness; needs no group index
};

struct GptqOptions {
  double dampening_frac = 0.01;  // also the ridge towards `weight` of the refinement
  DType model_dtype = DType::kF32;
  float global_scale = 0;  // of tensor_group schemes
  std::int64_t block_size = 128;
  ColumnOrder order = ColumnOrder::kGroups;
  // Scale and zero point searched at group entry in storage precision; false: min-max, or `params` when
  // given.
  bool search_scales = true;
  int scale_finalists = 16;
  // Integer grids have one code more below zero than above; a negative scale turns it to the heavier side.
  bool negative_scales = true;
  RefineOptions refine;
  double magr_strength = 0;             // 0: off; see magr.h
  const QuantParams* params = nullptr;  // start and, without search, final scales
  const Matrix* keep = nullptr;         // [rows, cols] of 0 and 1: weights with 0 stay exactly 0
};

// What layers that read one input share, while they ask one after the other: the inverse factor and the
// damped metric. Only those of the last input are kept: experts have inputs of their own.
class GptqMetrics {
 public:
  struct Metric {
    solver::InverseFactor factor;
    Matrix damped;
  };
  // The Hessian must live until the next call.
  Result<const Metric*> of(ThreadPool& pool, const Hessian& hessian, const std::vector<std::int32_t>& order,
                           double dampening_frac);

 private:
  const Hessian* hessian_ = nullptr;
  std::vector<std::int32_t> order_;
  double dampening_frac_ = 0;
  Metric metric_;
};

// Our own GPTQ. `weight` may be a shifted target (target_shift.h); `hessian` may be centred (then call
// update_bias). Dead channels keep their rounded weights. `loss` is sum over rows of (w - q) H (w - q)^T:
// with H the mean over tokens, the squared output error per token. `shared`: of
// the layers that read the same input; null: nothing is shared.
Result<GptqResult> gptq(ThreadPool& pool, const Matrix& weight, const Hessian& hessian,
                        const QuantizationArgs& args, const GptqOptions& options,
                        GptqMetrics* shared = nullptr);

// Round to nearest under the same scheme and min-max scales (`params` of the options if given), with its
// loss: what the report compares with.
Result<GptqResult> round_to_nearest(ThreadPool& pool, const Matrix& weight, const Hessian& hessian,
                                    const QuantizationArgs& args, const GptqOptions& options);

}  // namespace nibble
