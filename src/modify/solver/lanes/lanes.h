// SPDX-License-Identifier: Apache-2.0
// The column-by-column inner loops of the layer solvers, on panels of kLanes rows. A panel lies column-major
// ([column][lane]), so every operation works on lanes alone: rows never mix, there is no horizontal sum, and
// the result is the same to the last bit at every CPU level.
#pragma once

#include <cstdint>

#include "kernels/cpu_level.h"

namespace nibble::solver {

inline constexpr int kLanes = 32;

// The numbers a code may be, in units of the scale. An integer grid is a float grid of constant step 1.
struct CodeGrid {
  float lowest = 0;
  float highest = 0;
  // Step near x = max(2^floor(log2|x|), min_normal) * ratio; min_normal = 0 marks the constant step 1.
  float min_normal = 0;
  float ratio = 0;
};

// Rounding of code * scale to a narrower float format (min_normal = 0: none).
struct ProductFormat {
  float min_normal = 0;
  float ratio = 0;
};

// Error-compensated rounding of `cols` consecutive columns (the GPTQ recursion). For column j
//   q_j = (code_j - zero_j) * scale_j,  push_j = (q_j - w_j) / u_jj,  w_k += push_j * u_jk for j < k < reach,
// and loss += push_j^2. With `keep`, lanes with keep = 0 take q_j = 0 exactly.
struct SweepTask {
  int cols = 0;
  int reach = 0;             // >= cols
  const float* u = nullptr;  // row-major upper triangle, row distance ldu
  std::int64_t ldu = 0;
  float* w = nullptr;                   // [reach][kLanes], overwritten
  const float* const* scale = nullptr;  // per column kLanes scales; nullptr: no grid, survivors keep w
  const float* const* zero = nullptr;   // per column kLanes zero points; nullptr: symmetric
  const float* keep = nullptr;          // [cols][kLanes] of 0 and 1; nullptr: all kept
  CodeGrid grid{};
  ProductFormat product{};
  float* codes = nullptr;  // [cols][kLanes]; may be nullptr
  float* q = nullptr;      // [cols][kLanes]; may be nullptr
  float* push = nullptr;   // [cols][kLanes]; may be nullptr
  float* loss = nullptr;   // [kLanes]
};

// out[lane] = sum_j weight[j] * (w_j - q_j)^2 for plain rounding with one scale and zero per lane.
struct ScoreTask {
  int cols = 0;
  const float* w = nullptr;       // [cols][kLanes]
  const float* weight = nullptr;  // [cols]
  const float* keep = nullptr;
  const float* scale = nullptr;  // [kLanes]
  const float* zero = nullptr;   // [kLanes] or nullptr
  CodeGrid grid{};
  ProductFormat product{};
  float* out = nullptr;  // [kLanes]
};

// One pass of coordinate descent over `cols` columns. r = (w - q) H for the block, current at its start;
//   code_j <- nearest(q_j + r_j / h_jj),  delta_j = q_old - q_new,  r_k += delta_j * h_jk for k > j in the
//   block.
// Lanes with keep = 0 do not move.
struct DescentTask {
  int cols = 0;
  const float* h = nullptr;  // row-major block of the Hessian, row distance ldh
  std::int64_t ldh = 0;
  float* r = nullptr;  // [cols][kLanes], overwritten
  const float* const* scale = nullptr;
  const float* const* zero = nullptr;
  const float* keep = nullptr;
  CodeGrid grid{};
  ProductFormat product{};
  float* codes = nullptr;  // [cols][kLanes], updated
  float* q = nullptr;      // [cols][kLanes], updated
  float* delta = nullptr;  // [cols][kLanes]
};

struct LaneTable {
  void (*sweep)(const SweepTask&);
  void (*score)(const ScoreTask&);
  void (*descend)(const DescentTask&);
};

const LaneTable& lane_table(kernels::CpuLevel level);
inline const LaneTable& lane_table() {
  return lane_table(kernels::active_level());
}

}  // namespace nibble::solver
