// SPDX-License-Identifier: Apache-2.0
// The fits of one CPU level. Included by units with instruction-set flags: it declares types only.
#pragma once

#include "kernels/gguf_fit.h"

namespace nibble::kernels::gguf_fit {

inline constexpr float kTiny = 1e-15f;  // a block below it is all zero
inline constexpr int kLevelTries = 7;

struct Kernels {
  void (*scale_min)(const MinSearch& search, int n, std::int64_t count, const float* x, const float* weights,
                    std::uint8_t* codes, float* scale, float* min);
  void (*symmetric)(int half, int n, std::int64_t count, const float* x, const float* weights,
                    std::int8_t* codes, float* scale);
  void (*levels)(const std::int8_t* levels, std::int64_t count, const float* x, const float* weights,
                 float* scale);
};

extern const Kernels kPortable;
extern const Kernels kAvx2;
extern const Kernels kAvx512;

}  // namespace nibble::kernels::gguf_fit
