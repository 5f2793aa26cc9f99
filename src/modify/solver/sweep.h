// SPDX-License-Identifier: Apache-2.0
// The GPTQ recursion over all columns of a layer (Frantar et al., 2210.17323) in a given column order, with
// scales that are given or chosen at the entry of each group by a ScaleSearch.
#pragma once

#include <cstdint>
#include <vector>

#include "base/tensor.h"
#include "base/thread_pool.h"
#include "modify/solver/chunk.h"
#include "modify/solver/grid.h"

namespace nibble::solver {

class ScaleSearch;

struct SweepPlan {
  const Matrix* u = nullptr;        // upper factor in sweep order (factor.h)
  std::vector<std::int32_t> order;  // position -> column
  std::int64_t block_size = 128;    // columns per lazy update; a search widens blocks to whole groups
  LayerGrid grid;
  // Chooses the scales of a unit when the sweep enters it, on the compensated weights. Needs units of single
  // rows whose columns are neighbours in `order`. Rows that are one unit run once per finalist and keep the
  // best. nullptr: the scales of QuantParams hold.
  const ScaleSearch* search = nullptr;
  const Matrix* keep = nullptr;  // [rows, cols] of 0 and 1: weights with 0 stay exactly 0
};

struct SweepResult {
  Matrix weight;  // dequantized
  Matrix codes;
  std::vector<double> row_loss;  // sum of push^2 = e^T (H + lambda I) e for each row
};

// `params` gives the scales, or receives them from plan.search (it has its final shape either way).
SweepResult sweep_layer(ThreadPool& pool, const SweepPlan& plan, const Matrix& weight, QuantParams& params);

}  // namespace nibble::solver
