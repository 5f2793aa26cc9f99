// SPDX-License-Identifier: Apache-2.0
// The moves of refine.h on one chunk of rows. All of them keep the residual (w - q) M up to date and never
// raise (w - q) M (w - q)^T of a row.
#pragma once

#include <array>

#include "base/tensor.h"
#include "base/thread_pool.h"
#include "modify/solver/chunk.h"
#include "modify/solver/grid.h"

namespace nibble::solver {

class ChunkRefiner {
 public:
  ChunkRefiner(ThreadPool& pool, const Matrix& metric, const LayerGrid& grid, std::int64_t rows)
      : pool_(pool), metric_(metric), grid_(grid), rows_(rows), cols_(metric.rows()), residual_(cols_) {}

  Columns w, keep, codes, q;
  ChunkScales scales;
  Columns stored;  // scales as QuantParams holds them; units of single rows

  // From scratch: the increments of the moves leave rounding behind.
  void compute_residual();
  // One cycle of coordinate descent over all codes; false when none moved.
  bool descend();
  // One pass over the scales: with z = code - zero of a unit, the best change of its scale is (z . residual)
  // / (z M z); rounded to storage, it is taken if the loss falls. False when none changed.
  bool refit();

 private:
  void descend_panel(std::int64_t begin, std::int64_t end, int panel, PanelScratch& scratch, Columns& delta);
  std::array<float, kChunkRows> scale_changes(std::int64_t unit, std::int64_t begin, std::int64_t count,
                                              const Columns& z, const Columns& image);
  void apply(std::int64_t begin, std::int64_t end, const Columns& delta);

  ThreadPool& pool_;
  const Matrix& metric_;
  const LayerGrid& grid_;
  std::int64_t rows_, cols_;
  Columns residual_;
};

}  // namespace nibble::solver
