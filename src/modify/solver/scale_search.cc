// SPDX-License-Identifier: Apache-2.0
#include "modify/solver/scale_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nibble::solver {
namespace {

// Minimum and maximum over the kept columns, extended to contain 0.
void find_range(const ScaleTask& task, std::array<float, kLanes>& min, std::array<float, kLanes>& max) {
  min.fill(0);
  max.fill(0);
  for (int j = 0; j < task.cols; ++j) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const std::size_t at = static_cast<std::size_t>(j) * kLanes + lane;
      const float w = task.keep != nullptr && task.keep[at] == 0 ? 0.0f : task.w[at];
      min[lane] = std::min(min[lane], w);
      max[lane] = std::max(max[lane], w);
    }
  }
}

void copy_lane(const LaneScales& from, LaneScales& to, std::size_t lane) {
  to.stored[lane] = from.stored[lane];
  to.scale[lane] = from.scale[lane];
  to.zero[lane] = from.zero[lane];
  to.loss[lane] = from.loss[lane];
}

// Puts lane `lane` of `entry` into the sorted finalists, if it is good enough and not there already.
void insert_lane(std::vector<LaneScales>& best, const LaneScales& entry, std::size_t lane) {
  if (!(entry.loss[lane] < best.back().loss[lane])) return;
  for (const LaneScales& other : best) {
    if (other.stored[lane] == entry.stored[lane] && other.zero[lane] == entry.zero[lane] &&
        std::isfinite(other.loss[lane])) {
      return;
    }
  }
  for (std::size_t place = 0; place < best.size(); ++place) {
    if (!(entry.loss[lane] < best[place].loss[lane])) continue;
    for (std::size_t i = best.size() - 1; i > place; --i) copy_lane(best[i - 1], best[i], lane);
    copy_lane(entry, best[place], lane);
    return;
  }
}

}  // namespace

ScaleSearchOptions search_options(const LayerGrid& grid, int finalists, bool allow_negative_scale) {
  ScaleSearchOptions options{.finalists = finalists};
  const double levels = static_cast<double>(grid.codes.highest) - static_cast<double>(grid.codes.lowest) + 1;
  if (grid.storage.kind == ScaleStorage::Kind::kE8M0) {
    options.widest = 2.0;
    options.narrowest = 0.5;
    options.steps = 5;
  } else if (grid.codes.min_normal != 0) {
    options.widest = grid.codes.highest == 6 ? 1.6 : 1.05;
    options.narrowest = 0.6;
  } else {
    options.narrowest = levels <= 4 ? 0.3 : levels <= 8 ? 0.4 : levels <= 16 ? 0.5 : 0.8;
  }
  options.allow_negative_scale = allow_negative_scale && grid.symmetric && grid.codes.min_normal == 0 &&
                                 grid.storage.kind == ScaleStorage::Kind::kFloat;
  return options;
}

ScaleSearch::ScaleSearch(const ScaleSearchOptions& options, const LayerGrid& grid)
    : options_(options), grid_(grid) {
  const int steps = std::max(options_.steps, 2);
  const auto share = [&](int i, int count) {
    return static_cast<float>(options_.widest -
                              (options_.widest - options_.narrowest) * i / static_cast<double>(count - 1));
  };
  ranges_.push_back({1.0f, 1.0f});  // min-max itself
  if (grid_.symmetric) {
    for (int i = 0; i < steps; ++i) ranges_.push_back({share(i, steps), share(i, steps)});
    return;
  }
  const int per_end = std::max(2, steps / 2);
  for (int i = 0; i < per_end; ++i) {
    for (int j = 0; j < per_end; ++j) ranges_.push_back({share(i, per_end), share(j, per_end)});
  }
}

LaneScales ScaleSearch::candidate(const Range& range, bool negative, const std::array<float, kLanes>& min,
                                  const std::array<float, kLanes>& max) const {
  LaneScales result;
  const float sign = negative ? -1.0f : 1.0f;
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    const UnitScale unit = scale_for_range(grid_, min[lane] * range.low, max[lane] * range.high);
    result.stored[lane] = sign * unit.stored;
    result.scale[lane] = sign * unit.scale;
    result.zero[lane] = unit.zero;
  }
  return result;
}

std::vector<LaneScales> ScaleSearch::rank(const ScaleTask& task, const float* weights) const {
  std::array<float, kLanes> min, max;
  find_range(task, min, max);
  std::vector<LaneScales> best(static_cast<std::size_t>(std::max(options_.finalists, 1)));
  for (LaneScales& entry : best) entry.loss.fill(std::numeric_limits<float>::infinity());
  const LaneTable& lanes = lane_table();
  for (const Range& range : ranges_) {
    for (int sign = 0; sign < (grid_.symmetric && options_.allow_negative_scale ? 2 : 1); ++sign) {
      LaneScales entry = candidate(range, sign == 1, min, max);
      lanes.score({.cols = task.cols,
                   .w = task.w,
                   .weight = weights,
                   .keep = task.keep,
                   .scale = entry.scale.data(),
                   .zero = grid_.symmetric ? nullptr : entry.zero.data(),
                   .grid = grid_.codes,
                   .product = grid_.product,
                   .out = entry.loss.data()});
      for (std::size_t lane = 0; lane < kLanes; ++lane) insert_lane(best, entry, lane);
    }
  }
  // A lane may have fewer distinct candidates than finalists: repeat its best.
  for (LaneScales& entry : best) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      if (std::isfinite(entry.loss[lane])) continue;
      copy_lane(best[0], entry, lane);
    }
  }
  return best;
}

LaneScales ScaleSearch::choose(const ScaleTask& task) const {
  std::vector<float> weights(static_cast<std::size_t>(task.cols));
  for (int j = 0; j < task.cols; ++j) {
    const float pivot = task.u[j * task.ldu + j];
    weights[static_cast<std::size_t>(j)] = 1.0f / (pivot * pivot);
  }
  std::vector<LaneScales> best = rank(task, weights.data());
  if (options_.finalists <= 1) return best[0];
  LaneScales winner;
  winner.loss.fill(std::numeric_limits<float>::infinity());
  const std::size_t values = static_cast<std::size_t>(task.cols) * kLanes;
  std::vector<float> w(values);
  std::vector<const float*> scale(static_cast<std::size_t>(task.cols)),
      zero(static_cast<std::size_t>(task.cols));
  for (LaneScales& entry : best) {
    std::copy(task.w, task.w + values, w.begin());
    std::fill(scale.begin(), scale.end(), entry.scale.data());
    std::fill(zero.begin(), zero.end(), entry.zero.data());
    entry.loss.fill(0);
    lane_table().sweep({.cols = task.cols,
                        .reach = task.cols,
                        .u = task.u,
                        .ldu = task.ldu,
                        .w = w.data(),
                        .scale = scale.data(),
                        .zero = grid_.symmetric ? nullptr : zero.data(),
                        .keep = task.keep,
                        .grid = grid_.codes,
                        .product = grid_.product,
                        .loss = entry.loss.data()});
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      if (!(entry.loss[lane] < winner.loss[lane])) continue;
      copy_lane(entry, winner, lane);
    }
  }
  return winner;
}

}  // namespace nibble::solver
