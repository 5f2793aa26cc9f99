// SPDX-License-Identifier: Apache-2.0
#include "modify/refine.h"

#include "modify/solver/refiner.h"

namespace nibble {
namespace {

void run(solver::ChunkRefiner& chunk, const RefineOptions& options, bool refit) {
  for (int round = 0; round < options.rounds; ++round) {
    chunk.compute_residual();
    bool moved = false;
    for (int sweep = 0; sweep < options.sweeps; ++sweep) {
      if (!chunk.descend()) break;
      moved = true;
    }
    if (refit) moved = chunk.refit() || moved;
    if (!moved) return;
  }
}

}  // namespace

void refine(ThreadPool& pool, const Matrix& weight, const Matrix& metric, const solver::LayerGrid& grid,
            const Matrix* keep, const RefineOptions& options, Matrix& codes, Matrix& quantized,
            QuantParams& params) {
  CHECK(metric.rows() == weight.cols() && metric.cols() == weight.cols(),
        "the metric has the weight's width");
  if (options.rounds < 1) return;
  const bool per_row = grid.units.is_per_row();
  solver::for_each_chunk(pool, weight.rows(), [&](std::int64_t first_row, std::int64_t rows) {
    solver::ChunkRefiner chunk(pool, metric, grid, rows);
    chunk.w = solver::load_rows(weight, first_row, rows, {});
    chunk.codes = solver::load_rows(codes, first_row, rows, {});
    chunk.q = solver::load_rows(quantized, first_row, rows, {});
    if (keep != nullptr) chunk.keep = solver::load_rows(*keep, first_row, rows, {});
    chunk.scales = solver::load_scales(params, grid.units, first_row, rows);
    if (per_row) chunk.stored = solver::load_rows(params.scale, first_row, rows, {});
    run(chunk, options, per_row && options.refit_scales);
    solver::store_rows(chunk.codes, first_row, rows, {}, codes);
    solver::store_rows(chunk.q, first_row, rows, {}, quantized);
    if (per_row) solver::store_rows(chunk.stored, first_row, rows, {}, params.scale);
  });
}

}  // namespace nibble
