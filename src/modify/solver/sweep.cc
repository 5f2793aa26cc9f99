// SPDX-License-Identifier: Apache-2.0
#include "modify/solver/sweep.h"

#include <algorithm>

#include "modify/solver/scale_search.h"

namespace nibble::solver {
namespace {

struct Range {
  std::int64_t begin, end;
};

// Runs of positions whose columns belong to the same unit.
std::vector<Range> unit_runs(const SweepPlan& plan) {
  std::vector<Range> runs;
  const auto unit_at = [&](std::int64_t p) {
    return plan.order[static_cast<std::size_t>(p)] / plan.units.unit_cols;
  };
  for (std::int64_t p = 0; p < plan.units.cols; ++p) {
    if (p == 0 || unit_at(p) != unit_at(p - 1)) runs.push_back({p, p});
    runs.back().end = p + 1;
  }
  return runs;
}

// Blocks of about block_size positions; with a search they end where units end.
std::vector<Range> blocks_of(const SweepPlan& plan, const std::vector<Range>& runs) {
  std::vector<Range> blocks;
  if (plan.search == nullptr) {
    for (std::int64_t p = 0; p < plan.units.cols; p += plan.block_size) {
      blocks.push_back({p, std::min(p + plan.block_size, plan.units.cols)});
    }
    return blocks;
  }
  for (const Range& run : runs) {
    if (blocks.empty() || run.end - blocks.back().begin > plan.block_size) {
      blocks.push_back(run);
    } else {
      blocks.back().end = run.end;
    }
  }
  return blocks;
}

// The sweep over one chunk of rows.
class ChunkSweep {
 public:
  ChunkSweep(ThreadPool& pool, const SweepPlan& plan, const std::vector<Range>& runs,
             const std::vector<Range>& blocks, std::int64_t largest_block)
      : pool_(pool), plan_(plan), runs_(runs), blocks_(blocks), scratch_(largest_block) {}

  void run(const Matrix& weight, std::int64_t first_row, std::int64_t rows, QuantParams& params,
           SweepResult& result) {
    const std::int64_t cols = plan_.units.cols;
    w_ = load_rows(weight, first_row, rows, plan_.order);
    if (plan_.keep != nullptr) keep_ = load_rows(*plan_.keep, first_row, rows, plan_.order);
    scales_ = load_scales(params, plan_.units, first_row, rows);
    stored_ = plan_.search != nullptr ? Columns(plan_.units.scale_cols()) : Columns();
    codes_ = Columns(cols);
    q_ = Columns(cols);
    std::size_t next_run = 0;
    std::vector<double> loss(kChunkRows);
    for (const Range& block : blocks_) {
      std::size_t run_end = next_run;
      while (run_end < runs_.size() && runs_[run_end].begin < block.end) ++run_end;
      Columns push(block.end - block.begin);
      for (int panel = 0; panel < kPanels; ++panel) {
        if (panel * kLanes >= rows) break;
        sweep_panel(block, panel, {runs_.data() + next_run, run_end - next_run}, push, loss);
      }
      next_run = run_end;
      propagate(pool_, *plan_.u, block.begin, block.end, push, w_);
    }
    store_rows(q_, first_row, rows, plan_.order, result.weight);
    store_rows(codes_, first_row, rows, plan_.order, result.codes);
    for (std::int64_t r = 0; r < rows; ++r) {
      result.row_loss[static_cast<std::size_t>(first_row + r)] = loss[static_cast<std::size_t>(r)];
    }
    if (plan_.search != nullptr) {
      store_units(stored_, first_row, rows, params.scale);
      if (!params.zero_point.empty()) store_units(scales_.zero, first_row, rows, params.zero_point);
    }
  }

 private:
  static void store_units(const Columns& columns, std::int64_t first_row, std::int64_t rows, Matrix& out) {
    store_rows(columns, first_row, rows, {}, out);
  }

  std::int64_t unit_at(std::int64_t position) const {
    return plan_.order[static_cast<std::size_t>(position)] / plan_.units.unit_cols;
  }

  void sweep_panel(const Range& block, int panel, std::span<const Range> runs, Columns& push,
                   std::vector<double>& loss) {
    const std::int64_t size = block.end - block.begin;
    w_.gather(block.begin, block.end, panel, scratch_.w.data());
    if (!keep_.empty()) keep_.gather(block.begin, block.end, panel, scratch_.keep.data());
    for (std::int64_t p = 0; p < size; ++p) {
      const std::int64_t unit = unit_at(block.begin + p);
      scratch_.scale[static_cast<std::size_t>(p)] = scales_.scale.at(unit, panel);
      if (!scales_.zero.empty()) scratch_.zero[static_cast<std::size_t>(p)] = scales_.zero.at(unit, panel);
    }
    std::array<float, kLanes> panel_loss{};
    if (plan_.search == nullptr) {
      lane_table().sweep(task(block, 0, size, panel_loss.data()));
    } else {
      for (const Range& run : runs) {
        SweepTask part = task(block, run.begin - block.begin, run.end - run.begin, panel_loss.data());
        choose_scales(part, unit_at(run.begin), panel);
        lane_table().sweep(part);
      }
    }
    push.scatter(0, size, panel, scratch_.push.data());
    q_.scatter(block.begin, block.end, panel, scratch_.q.data());
    codes_.scatter(block.begin, block.end, panel, scratch_.codes.data());
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      loss[static_cast<std::size_t>(panel) * kLanes + lane] += static_cast<double>(panel_loss[lane]);
    }
  }

  // Columns [first, first + cols) of the block in scratch_, reaching to its end.
  SweepTask task(const Range& block, std::int64_t first, std::int64_t cols, float* loss) {
    const std::int64_t at = first * kLanes;
    const std::int64_t position = block.begin + first;
    return {.cols = static_cast<int>(cols),
            .reach = static_cast<int>(block.end - position),
            .u = plan_.u->data() + position * plan_.u->cols() + position,
            .ldu = plan_.u->cols(),
            .w = scratch_.w.data() + at,
            .scale = scratch_.scale.data() + first,
            .zero = scales_.zero.empty() ? nullptr : scratch_.zero.data() + first,
            .keep = keep_.empty() ? nullptr : scratch_.keep.data() + at,
            .grid = plan_.grid,
            .product = plan_.product,
            .codes = scratch_.codes.data() + at,
            .q = scratch_.q.data() + at,
            .push = scratch_.push.data() + at,
            .loss = loss};
  }

  void choose_scales(const SweepTask& part, std::int64_t unit, int panel) {
    const LaneScales chosen = plan_.search->choose(
        {.cols = part.cols, .w = part.w, .keep = part.keep, .u = part.u, .ldu = part.ldu});
    std::copy(chosen.scale.begin(), chosen.scale.end(), scales_.scale.at(unit, panel));
    std::copy(chosen.stored.begin(), chosen.stored.end(), stored_.at(unit, panel));
    if (!scales_.zero.empty())
      std::copy(chosen.zero.begin(), chosen.zero.end(), scales_.zero.at(unit, panel));
  }

  ThreadPool& pool_;
  const SweepPlan& plan_;
  const std::vector<Range>& runs_;
  const std::vector<Range>& blocks_;
  PanelScratch scratch_;
  Columns w_, keep_, codes_, q_, stored_;
  ChunkScales scales_;
};

}  // namespace

SweepResult sweep_layer(ThreadPool& pool, const SweepPlan& plan, const Matrix& weight, QuantParams& params) {
  CHECK(weight.rows() == plan.units.rows && weight.cols() == plan.units.cols, "the plan fits the weight");
  CHECK(plan.search == nullptr || plan.units.is_per_row(), "a search needs units of single rows");
  const std::vector<Range> runs = unit_runs(plan);
  const std::vector<Range> blocks = blocks_of(plan, runs);
  std::int64_t largest = 0;
  for (const Range& block : blocks) largest = std::max(largest, block.end - block.begin);
  SweepResult result{.weight = Matrix(weight.rows(), weight.cols()),
                     .codes = Matrix(weight.rows(), weight.cols()),
                     .row_loss = std::vector<double>(static_cast<std::size_t>(weight.rows()))};
  for_each_chunk(pool, weight.rows(), [&](std::int64_t first_row, std::int64_t rows) {
    ChunkSweep(pool, plan, runs, blocks, largest).run(weight, first_row, rows, params, result);
  });
  return result;
}

}  // namespace nibble::solver
