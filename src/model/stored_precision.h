// SPDX-License-Identifier: Apache-2.0
// The forward as PyTorch runs it in a checkpoint's own type: what every operation gives is rounded to BF16 or
// F16. Statistics of llm-compressor are gathered so, and its codes can only be met with the same inputs. All
// functions do nothing, or the plain thing, when Pass::dtype is F32.
#pragma once

#include "model/apply.h"

namespace nibble {

inline bool is_narrow(const Pass& pass) {
  return pass.dtype != DType::kF32;
}
void settle(const Pass& pass, Matrix& x);
void settle(const Pass& pass, std::int64_t count, float* x);

// An RMS norm rounds before it multiplies by its weight, unless the architecture says otherwise.
void settled_norm(const Pass& pass, const ModelConfig& config, const Norm& norm, std::int64_t rows,
                  std::int64_t cols, const float* x, std::int64_t ld, float* y);
// inner = f(inner) * other.
void settled_gate(const Pass& pass, kernels::Activation f, std::int64_t rows, std::int64_t cols, float* inner,
                  std::int64_t ldinner, const float* other, std::int64_t ldother, float* out,
                  std::int64_t ldout);
void settled_rope(const Pass& pass, const kernels::Rope& rope, std::int64_t tokens, std::int64_t heads,
                  float* x, std::int64_t ld);

}  // namespace nibble
