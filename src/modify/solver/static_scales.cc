// SPDX-License-Identifier: Apache-2.0
// Scales from the weights as they are, for schemes whose units span rows.
#include <algorithm>
#include <cmath>
#include <limits>

#include "modify/solver/scale_search.h"

namespace nibble::solver {
namespace {

QuantParams empty_params(const LayerGrid& grid) {
  QuantParams params{.scale = Matrix(grid.units.scale_rows(), grid.units.scale_cols()),
                     .zero_point = {},
                     .global_scale = grid.storage.global_scale};
  if (!grid.symmetric) params.zero_point = Matrix(params.scale.rows(), params.scale.cols());
  return params;
}

struct UnitBlock {
  std::int64_t first_row, rows, first_col, cols;
  float low = 0, high = 0;
};

UnitBlock unit_block(const Matrix& weight, const Units& units, std::int64_t row, std::int64_t col) {
  UnitBlock block{
      .first_row = row * units.unit_rows, .rows = 0, .first_col = col * units.unit_cols, .cols = 0};
  block.rows = std::min(units.unit_rows, units.rows - block.first_row);
  block.cols = std::min(units.unit_cols, units.cols - block.first_col);
  for (std::int64_t r = block.first_row; r < block.first_row + block.rows; ++r) {
    for (std::int64_t c = block.first_col; c < block.first_col + block.cols; ++c) {
      block.low = std::min(block.low, weight.at(r, c));
      block.high = std::max(block.high, weight.at(r, c));
    }
  }
  return block;
}

void set_unit(QuantParams& params, std::int64_t row, std::int64_t col, const UnitScale& unit) {
  params.scale.at(row, col) = unit.stored;
  if (!params.zero_point.empty()) params.zero_point.at(row, col) = unit.zero;
}

// Transposed panels of a block, kLanes rows each; the last panel's missing rows are 0.
std::vector<Matrix> block_panels(const Matrix& weight, const UnitBlock& block) {
  std::vector<Matrix> panels;
  for (std::int64_t first = 0; first < block.rows; first += kLanes) {
    Matrix& panel = panels.emplace_back(block.cols, kLanes);
    for (std::int64_t lane = 0; lane < std::min<std::int64_t>(kLanes, block.rows - first); ++lane) {
      for (std::int64_t c = 0; c < block.cols; ++c) {
        panel.at(c, lane) = weight.at(block.first_row + first + lane, block.first_col + c);
      }
    }
  }
  return panels;
}

double rounding_error(const std::vector<Matrix>& panels, const float* importance, const UnitScale& unit,
                      const LayerGrid& grid) {
  LaneScales lanes;
  lanes.scale.fill(unit.scale);
  lanes.zero.fill(unit.zero);
  double sum = 0;
  for (const Matrix& panel : panels) {
    lane_table().score({.cols = static_cast<int>(panel.rows()),
                        .w = panel.data(),
                        .weight = importance,
                        .scale = lanes.scale.data(),
                        .zero = grid.symmetric ? nullptr : lanes.zero.data(),
                        .grid = grid.codes,
                        .product = grid.product,
                        .out = lanes.loss.data()});
    for (const float loss : lanes.loss) sum += static_cast<double>(loss);
  }
  return sum;
}

}  // namespace

QuantParams search_static(ThreadPool& pool, const Matrix& weight, std::span<const float> importance,
                          const ScaleSearchOptions& options, const LayerGrid& grid) {
  QuantParams params = empty_params(grid);
  const std::int64_t across = params.scale.cols();
  pool.parallel_for(params.scale.rows() * across, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const UnitBlock block = unit_block(weight, grid.units, i / across, i % across);
      const std::vector<Matrix> panels = block_panels(weight, block);
      UnitScale best = scale_for_range(grid, block.low, block.high);
      double best_error = rounding_error(panels, importance.data() + block.first_col, best, grid);
      for (int step = 0; step < options.steps; ++step) {
        const double share =
            options.widest - (options.widest - options.narrowest) * step / (options.steps - 1);
        const UnitScale unit = scale_for_range(grid, block.low * static_cast<float>(share),
                                               block.high * static_cast<float>(share));
        const double error = rounding_error(panels, importance.data() + block.first_col, unit, grid);
        if (!(error < best_error)) continue;
        best_error = error;
        best = unit;
      }
      set_unit(params, i / across, i % across, best);
    }
  });
  return params;
}

}  // namespace nibble::solver
