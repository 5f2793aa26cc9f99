// SPDX-License-Identifier: Apache-2.0
#include "modify/solver/prune_sweep.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "modify/solver/chunk.h"

namespace nibble::solver {
namespace {

// The rows of one chunk between blocks.
struct ChunkState {
  std::int64_t first_row = 0, rows = 0;
  Columns w, keep, allowed, q;
  double loss = 0;
};

class PruneSweep {
 public:
  PruneSweep(ThreadPool& pool, const PruneSweepPlan& plan, const Matrix& weight)
      : pool_(pool), plan_(plan), rows_(weight.rows()), cols_(weight.cols()), block_(plan.block_size) {
    const std::int64_t group = plan.pattern.group;
    if (group > 0) block_ = (block_ + group - 1) / group * group;
    block_ = std::min(block_, cols_);
    chunks_.resize(static_cast<std::size_t>((rows_ + kChunkRows - 1) / kChunkRows));
    for_each_chunk(pool, rows_, [&](std::int64_t first_row, std::int64_t rows) {
      ChunkState& chunk = chunks_[static_cast<std::size_t>(first_row / kChunkRows)];
      chunk.first_row = first_row;
      chunk.rows = rows;
      chunk.w = load_rows(weight, first_row, rows, {});
      chunk.keep = Columns(cols_);
      chunk.q = Columns(cols_);
      if (plan.allowed != nullptr) chunk.allowed = load_rows(*plan.allowed, first_row, rows, {});
    });
  }

  PruneSweepResult run() {
    for (std::int64_t begin = 0; begin < cols_; begin += block_) {
      const std::int64_t end = std::min(begin + block_, cols_);
      if (!plan_.pattern.is_structured()) choose_block(begin, end);
      pool_.parallel_for(static_cast<std::int64_t>(chunks_.size()), 1,
                         [&](std::int64_t first, std::int64_t last) {
                           for (std::int64_t i = first; i < last; ++i)
                             sweep_block(chunks_[static_cast<std::size_t>(i)], begin, end);
                         });
    }
    PruneSweepResult result{.weight = Matrix(rows_, cols_), .keep = Matrix(rows_, cols_)};
    for (const ChunkState& chunk : chunks_) {
      store_rows(chunk.q, chunk.first_row, chunk.rows, {}, result.weight);
      store_rows(chunk.keep, chunk.first_row, chunk.rows, {}, result.keep);
      result.loss += chunk.loss;
    }
    return result;
  }

 private:
  // w^2 / u_jj^2, 0 where pruned beforehand.
  float score(const ChunkState& chunk, std::int64_t column, std::int64_t row) const {
    const float w = chunk.w.at(column)[row], pivot = plan_.u->at(column, column);
    if (!chunk.allowed.empty() && chunk.allowed.at(column)[row] == 0) return 0;
    return w * w / (pivot * pivot);
  }

  // Unstructured: the mask of a block is chosen over all rows before the block is swept.
  void choose_block(std::int64_t begin, std::int64_t end) {
    Matrix scores(rows_, end - begin);
    for (const ChunkState& chunk : chunks_) {
      for (std::int64_t r = 0; r < chunk.rows; ++r) {
        for (std::int64_t c = begin; c < end; ++c)
          scores.at(chunk.first_row + r, c - begin) = score(chunk, c, r);
      }
    }
    const Matrix keep = keep_largest(pool_, scores, pruned_in_block(scores, begin, end));
    for (ChunkState& chunk : chunks_) {
      for (std::int64_t r = 0; r < chunk.rows; ++r) {
        for (std::int64_t c = begin; c < end; ++c) {
          chunk.keep.at(c)[r] = keep.at(chunk.first_row + r, c - begin);
          if (!chunk.allowed.empty()) chunk.keep.at(c)[r] *= chunk.allowed.at(c)[r];
        }
      }
    }
  }

  std::int64_t pruned_in_block(const Matrix& scores, std::int64_t begin, std::int64_t end) const {
    const double sparsity = plan_.pattern.sparsity;
    if (!plan_.as_reference) {
      const auto up_to = [&](std::int64_t column) {
        return std::llround(static_cast<double>(rows_ * column) * sparsity);
      };
      return up_to(end) - up_to(begin);
    }
    const std::int64_t count = scores.rows() * scores.cols();
    const auto rank = std::min(static_cast<std::int64_t>(static_cast<double>(count) * sparsity), count - 1);
    RankSelection threshold(rank);
    for (int pass = 0; pass < 2; ++pass) {
      threshold.count(pool_, scores.values());
      threshold.narrow();
    }
    return std::ranges::count_if(scores.values(), [&](float s) { return s <= threshold.value(); });
  }

  void sweep_block(ChunkState& chunk, std::int64_t begin, std::int64_t end) const {
    PanelScratch scratch(end - begin);
    Columns push(end - begin);
    for (int panel = 0; panel < kPanels && panel * kLanes < chunk.rows; ++panel) {
      chunk.w.gather(begin, end, panel, scratch.w.data());
      chunk.keep.gather(begin, end, panel, scratch.keep.data());
      if (plan_.as_reference && !chunk.allowed.empty()) {
        for (std::int64_t c = begin; c < end; ++c) {
          for (std::int64_t lane = 0; lane < kLanes; ++lane) {
            scratch.w.at(c - begin, lane) *= chunk.allowed.at(c, panel)[lane];
          }
        }
      }
      const std::int64_t step = plan_.pattern.is_structured() ? plan_.pattern.group : end - begin;
      std::array<float, kLanes> loss{};
      for (std::int64_t first = begin; first < end; first += step) {
        if (plan_.pattern.is_structured()) choose_group(chunk, first, panel, begin, scratch);
        const std::int64_t at = (first - begin) * kLanes;
        lane_table().sweep({.cols = static_cast<int>(std::min(step, end - first)),
                            .reach = static_cast<int>(end - first),
                            .u = plan_.u->data() + first * cols_ + first,
                            .ldu = cols_,
                            .w = scratch.w.data() + at,
                            .keep = scratch.keep.data() + at,
                            .q = scratch.q.data() + at,
                            .push = scratch.push.data() + at,
                            .loss = loss.data()});
      }
      chunk.keep.scatter(begin, end, panel, scratch.keep.data());
      chunk.q.scatter(begin, end, panel, scratch.q.data());
      push.scatter(0, end - begin, panel, scratch.push.data());
      for (const float l : loss) chunk.loss += static_cast<double>(l);
    }
    propagate(pool_, *plan_.u, begin, end, push, chunk.w);
  }

  // n:m: the cheapest of the group's current weights; weights pruned beforehand come first and all stay
  // pruned.
  void choose_group(const ChunkState& chunk, std::int64_t first, int panel, std::int64_t begin,
                    PanelScratch& scratch) const {
    const int group = plan_.pattern.group;
    std::vector<float> scores(static_cast<std::size_t>(group));
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      for (int i = 0; i < group; ++i) {
        const float w = scratch.w.at(first - begin + i, lane), pivot = plan_.u->at(first + i, first + i);
        scores[static_cast<std::size_t>(i)] =
            allowed(chunk, first + i, panel, lane) ? w * w / (pivot * pivot) : -1.0f;
      }
      for (int i = 0; i < group; ++i) {
        const float own = scores[static_cast<std::size_t>(i)];
        int smaller = 0;
        for (int o = 0; o < group; ++o) {
          const float other = scores[static_cast<std::size_t>(o)];
          smaller += other < own || (other == own && o > i);
        }
        scratch.keep.at(first - begin + i, lane) = own >= 0 && smaller >= plan_.pattern.zeros ? 1.0f : 0.0f;
      }
    }
  }

  static bool allowed(const ChunkState& chunk, std::int64_t column, int panel, std::int64_t lane) {
    return chunk.allowed.empty() || chunk.allowed.at(column, panel)[lane] != 0;
  }

  ThreadPool& pool_;
  const PruneSweepPlan& plan_;
  std::int64_t rows_, cols_, block_;
  std::vector<ChunkState> chunks_;
};

}  // namespace

PruneSweepResult prune_sweep(ThreadPool& pool, const PruneSweepPlan& plan, const Matrix& weight) {
  return PruneSweep(pool, plan, weight).run();
}

}  // namespace nibble::solver
