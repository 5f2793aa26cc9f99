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

}  // namespace nibble
