// SPDX-License-Identifier: Apache-2.0
// Kernels of one row (or of one range) per CPU level; rows.h states what they compute.
#pragma once

#include <cstdint>

namespace nibble::kernels::rows {

inline constexpr int kActivations = 7;

struct Kernels {
  void (*rms_norm)(std::int64_t cols, const float* x, const float* weight, float offset, double epsilon,
                   float* y);
  void (*layer_norm)(std::int64_t cols, const float* x, const float* weight, const float* bias,
                     double epsilon, float* y);
  void (*activate[kActivations])(std::int64_t cols, const float* x, float* y);
  void (*activate_gated[kActivations])(std::int64_t cols, const float* gate, const float* up, float* y);
  void (*soft_cap)(std::int64_t cols, float cap, float* x);
  void (*softmax)(std::int64_t cols, const float* x, float* y);
  // The largest element and the sum of exp(x - largest).
  double (*sum_exp)(std::int64_t cols, const float* x, float* largest);
  void (*add_scaled)(std::int64_t cols, float alpha, const float* x, float* y);
  // One head: pairs (a[i * step], b[i * step]); sign is 1 or -1.
  void (*rope)(std::int64_t pairs, const float* cos, const float* sin, float sign, float* a, float* b,
               std::int64_t step);
  void (*range)(std::int64_t cols, const float* x, float* lowest, float* highest);
  void (*quantize)(std::int64_t cols, const float* x, float scale, float zero, float low, float high,
                   std::uint8_t* codes);
};

extern const Kernels kPortable;
extern const Kernels kAvx2;
extern const Kernels kAvx512;

const Kernels& kernels();  // of the active level

}  // namespace nibble::kernels::rows
