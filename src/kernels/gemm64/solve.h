// SPDX-License-Identifier: Apache-2.0
// Forward substitution for 8 right-hand sides, in plain loops that every level's unit compiles for itself.
// Multiply and subtract are rounded apart: equal bits at all levels.
#pragma once

#include <cstdint>

#include "kernels/gemm64/tile.h"

namespace nibble::kernels::gemm64 {
namespace {

inline void solve_strip(int size, const double* __restrict t, double* __restrict x) {
  for (int k = 0; k < size; ++k) {
    double solved[kStrip];
    for (int lane = 0; lane < kStrip; ++lane) solved[lane] = x[k * kStrip + lane] * t[k * size + k];
    for (int lane = 0; lane < kStrip; ++lane) x[k * kStrip + lane] = solved[lane];
    for (int i = k + 1; i < size; ++i) {
      const double factor = t[k * size + i];
      for (int lane = 0; lane < kStrip; ++lane) x[i * kStrip + lane] -= factor * solved[lane];
    }
  }
}

}  // namespace
}  // namespace nibble::kernels::gemm64
