// SPDX-License-Identifier: Apache-2.0
#include "modify/solver/sweep.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "modify/solver/scale_search.h"

namespace nibble::solver {
namespace {

struct Range {
  std::int64_t begin, end;
};

// Rows that are one unit and longer than this are searched by whole sweeps; shorter ones as one group.
constexpr std::int64_t kLongestGroup = 512;

std::int64_t unit_at(const SweepPlan& plan, std::int64_t position) {
  return plan.order[static_cast<std::size_t>(position)] / plan.grid.units.unit_cols;
}

// Runs of positions whose columns belong to the same unit.
std::vector<Range> unit_runs(const SweepPlan& plan) {
  std::vector<Range> runs;
  for (std::int64_t p = 0; p < plan.grid.units.cols; ++p) {
    if (p == 0 || unit_at(plan, p) != unit_at(plan, p - 1)) runs.push_back({p, p});
    runs.back().end = p + 1;
  }
  return runs;
}

// Blocks of about block_size positions; `whole_runs` makes them end where units end.
std::vector<Range> blocks_of(const SweepPlan& plan, const std::vector<Range>& runs, bool whole_runs) {
  std::vector<Range> blocks;
  if (!whole_runs) {
    for (std::int64_t p = 0; p < plan.grid.units.cols; p += plan.block_size) {
      blocks.push_back({p, std::min(p + plan.block_size, plan.grid.units.cols)});
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

struct Layout {
  explicit Layout(const SweepPlan& plan)
      : runs(unit_runs(plan)),
        search_rows(plan.search != nullptr && plan.grid.units.scale_cols() == 1 &&
                    plan.grid.units.cols > kLongestGroup),
        search_groups(plan.search != nullptr && !search_rows),
        blocks(blocks_of(plan, runs, search_groups)) {
    for (const Range& block : blocks) largest_block = std::max(largest_block, block.end - block.begin);
  }
  std::vector<Range> runs;
  bool search_rows;
  bool search_groups;
  std::vector<Range> blocks;
  std::int64_t largest_block = 0;
};

// The sweep over one chunk of rows.
class ChunkSweep {
 public:
  ChunkSweep(ThreadPool& pool, const SweepPlan& plan, const Layout& layout, std::int64_t first_row,
             std::int64_t rows)
      : pool_(pool),
        plan_(plan),
        layout_(layout),
        first_row_(first_row),
        rows_(rows),
        scratch_(layout.largest_block),
        codes_(plan.grid.units.cols),
        q_(plan.grid.units.cols) {}

  void run(const Matrix& weight, QuantParams& params, SweepResult& result) {
    w_ = load_rows(weight, first_row_, rows_, plan_.order);
    if (plan_.keep != nullptr) keep_ = load_rows(*plan_.keep, first_row_, rows_, plan_.order);
    scales_ = load_scales(params, plan_.grid.units, first_row_, rows_);
    if (plan_.search != nullptr) stored_ = Columns(plan_.grid.units.scale_cols());
    if (layout_.search_rows) {
      try_finalists();
    } else {
      sweep();
    }
    store_rows(q_, first_row_, rows_, plan_.order, result.weight);
    store_rows(codes_, first_row_, rows_, plan_.order, result.codes);
    std::copy_n(loss_.begin(), rows_, result.row_loss.begin() + first_row_);
    if (plan_.search == nullptr) return;
    store_rows(stored_, first_row_, rows_, {}, params.scale);
    if (!params.zero_point.empty()) store_rows(scales_.zero, first_row_, rows_, {}, params.zero_point);
  }

 private:
  void sweep() {
    loss_.fill(0);
    auto run = layout_.runs.begin();
    for (const Range& block : layout_.blocks) {
      auto run_end = run;
      while (run_end != layout_.runs.end() && run_end->begin < block.end) ++run_end;
      Columns push(block.end - block.begin);
      for (int panel = 0; panel < kPanels && panel * kLanes < rows_; ++panel) {
        sweep_panel(block, panel, {run, run_end}, push);
      }
      run = run_end;
      propagate(pool_, *plan_.u, block.begin, block.end, push, w_);
    }
  }

  void sweep_panel(const Range& block, int panel, std::span<const Range> runs, Columns& push) {
    const std::int64_t size = block.end - block.begin;
    w_.gather(block.begin, block.end, panel, scratch_.w.data());
    if (!keep_.empty()) keep_.gather(block.begin, block.end, panel, scratch_.keep.data());
    for (std::int64_t p = 0; p < size; ++p) {
      const std::int64_t unit = unit_at(plan_, block.begin + p);
      scratch_.scale[static_cast<std::size_t>(p)] = scales_.scale.at(unit, panel);
      if (!scales_.zero.empty()) scratch_.zero[static_cast<std::size_t>(p)] = scales_.zero.at(unit, panel);
    }
    std::array<float, kLanes> loss{};
    if (!layout_.search_groups) {
      lane_table().sweep(task(block, 0, size, loss.data()));
    } else {
      for (const Range& run : runs) {
        const SweepTask part = task(block, run.begin - block.begin, run.end - run.begin, loss.data());
        const LaneScales chosen = plan_.search->choose(
            {.cols = part.cols, .w = part.w, .keep = part.keep, .u = part.u, .ldu = part.ldu});
        set_scales(unit_at(plan_, run.begin), panel, chosen);
        lane_table().sweep(part);
      }
    }
    push.scatter(0, size, panel, scratch_.push.data());
    q_.scatter(block.begin, block.end, panel, scratch_.q.data());
    codes_.scatter(block.begin, block.end, panel, scratch_.codes.data());
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      loss_[static_cast<std::size_t>(panel) * kLanes + lane] += static_cast<double>(loss[lane]);
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
            .grid = plan_.grid.codes,
            .product = plan_.grid.product,
            .codes = scratch_.codes.data() + at,
            .q = scratch_.q.data() + at,
            .push = scratch_.push.data() + at,
            .loss = loss};
  }

  void set_scales(std::int64_t unit, int panel, const LaneScales& chosen) {
    std::ranges::copy(chosen.scale, scales_.scale.at(unit, panel));
    std::ranges::copy(chosen.stored, stored_.at(unit, panel));
    if (!scales_.zero.empty()) std::ranges::copy(chosen.zero, scales_.zero.at(unit, panel));
  }

  // One unit per row: sweeps with each finalist in turn; every row keeps the one with the smallest loss.
  void try_finalists() {
    const std::int64_t cols = plan_.grid.units.cols;
    const std::vector<std::vector<LaneScales>> finalists = rank_rows();
    const Matrix start = w_.values();
    Columns best_codes(cols), best_q(cols), best_stored(1), best_zero(scales_.zero.empty() ? 0 : 1);
    std::array<double, kChunkRows> best_loss;
    best_loss.fill(std::numeric_limits<double>::infinity());
    for (std::size_t i = 0; i < finalists[0].size(); ++i) {
      if (i > 0) w_.values() = start;
      for (std::size_t panel = 0; panel < finalists.size(); ++panel) {
        set_scales(0, static_cast<int>(panel), finalists[panel][i]);
      }
      sweep();
      for (std::int64_t r = 0; r < rows_; ++r) {
        if (!(loss_[static_cast<std::size_t>(r)] < best_loss[static_cast<std::size_t>(r)])) continue;
        best_loss[static_cast<std::size_t>(r)] = loss_[static_cast<std::size_t>(r)];
        best_stored.at(0)[r] = stored_.at(0)[r];
        if (!best_zero.empty()) best_zero.at(0)[r] = scales_.zero.at(0)[r];
        for (std::int64_t p = 0; p < cols; ++p) {
          best_codes.at(p)[r] = codes_.at(p)[r];
          best_q.at(p)[r] = q_.at(p)[r];
        }
      }
    }
    loss_ = best_loss;
    std::swap(codes_, best_codes);
    std::swap(q_, best_q);
    std::swap(stored_, best_stored);
    std::swap(scales_.zero, best_zero);
  }

  std::vector<std::vector<LaneScales>> rank_rows() {
    const std::int64_t cols = plan_.grid.units.cols;
    std::vector<float> importance(static_cast<std::size_t>(cols));
    for (std::int64_t p = 0; p < cols; ++p) {
      const float pivot = plan_.u->at(p, p);
      importance[static_cast<std::size_t>(p)] = 1.0f / (pivot * pivot);
    }
    Matrix w(cols, kLanes), keep(cols, kLanes);
    std::vector<std::vector<LaneScales>> result;
    for (int panel = 0; panel < kPanels && panel * kLanes < rows_; ++panel) {
      w_.gather(0, cols, panel, w.data());
      if (!keep_.empty()) keep_.gather(0, cols, panel, keep.data());
      result.push_back(plan_.search->rank(
          {.cols = static_cast<int>(cols), .w = w.data(), .keep = keep_.empty() ? nullptr : keep.data()},
          importance.data()));
    }
    return result;
  }

  ThreadPool& pool_;
  const SweepPlan& plan_;
  const Layout& layout_;
  std::int64_t first_row_, rows_;
  PanelScratch scratch_;
  Columns codes_, q_, w_, keep_, stored_;
  ChunkScales scales_;
  std::array<double, kChunkRows> loss_{};
};

}  // namespace

SweepResult sweep_layer(ThreadPool& pool, const SweepPlan& plan, const Matrix& weight, QuantParams& params) {
  const Units& units = plan.grid.units;
  CHECK(weight.rows() == units.rows && weight.cols() == units.cols, "the plan fits the weight");
  CHECK(plan.search == nullptr || units.is_per_row(), "a search needs units of single rows");
  const Layout layout(plan);
  SweepResult result{.weight = Matrix(weight.rows(), weight.cols()),
                     .codes = Matrix(weight.rows(), weight.cols()),
                     .row_loss = std::vector<double>(static_cast<std::size_t>(weight.rows()))};
  for_each_chunk(pool, weight.rows(), [&](std::int64_t first_row, std::int64_t rows) {
    ChunkSweep(pool, plan, layout, first_row, rows).run(weight, params, result);
  });
  return result;
}

}  // namespace nibble::solver
