// SPDX-License-Identifier: Apache-2.0
// Scale and zero point of a group chosen where GPTQ enters it: on the compensated weights, in the
// precision in which the scale is stored, by what the choice costs the layer. A wide grid of candidates is
// ranked by the sum of e_j^2 / u_jj^2 under plain rounding; the best ones then run the in-group recursion
// itself, whose sum of push^2 is exactly the group's share of the final loss.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "modify/solver/grid.h"
#include "modify/solver/lanes/lanes.h"

namespace nibble::solver {

struct ScaleSearchOptions {
  // Symmetric integer grids have one code more below zero than above: a negative scale turns it to the other
  // side.
  bool allow_negative_scale = false;
  int finalists = 8;       // candidates whose recursion is simulated; 1: ranking alone
  double widest = 1.05;    // candidate ranges as a share of the min-max range ...
  double narrowest = 0.4;  // ... down to this
  int steps = 28;          // half as many per end when both ends move
};

// Ranges that fit a grid: coarse grids gain from clipping far inside the range, fp4 from a maximum of 4
// instead of 6, power-of-two scales have neighbours only at factors of two.
ScaleSearchOptions search_options(const LayerGrid& grid, int finalists, bool allow_negative_scale);

// One group of one panel.
struct ScaleTask {
  int cols = 0;
  const float* w = nullptr;     // [cols][kLanes], compensated
  const float* keep = nullptr;  // [cols][kLanes] or nullptr
  const float* u = nullptr;     // the group's diagonal block of the factor
  std::int64_t ldu = 0;
};

struct LaneScales {
  std::array<float, kLanes> stored{};  // as QuantParams::scale holds it
  std::array<float, kLanes> scale{};   // effective
  std::array<float, kLanes> zero{};
  std::array<float, kLanes> loss{};  // predicted loss; of the ranking when finalists == 1
};

class ScaleSearch {
 public:
  ScaleSearch(const ScaleSearchOptions& options, const LayerGrid& grid);

  LaneScales choose(const ScaleTask& task) const;
  // The best `options.finalists` candidates of the ranking, best first; weights[j] is the importance of
  // column j.
  std::vector<LaneScales> rank(const ScaleTask& task, const float* weights) const;

 private:
  struct Range {
    float low, high;  // shares of the minimum and the maximum
  };
  LaneScales candidate(const Range& range, bool negative, const std::array<float, kLanes>& min,
                       const std::array<float, kLanes>& max) const;

  ScaleSearchOptions options_;
  LayerGrid grid_;
  std::vector<Range> ranges_;
};

// Scales of every unit on the weights as they are, one pass: the candidate with the smallest sum of
// importance[column] * (w - q)^2 over the unit. For units of several rows, which a sweep cannot choose.
QuantParams search_static(ThreadPool& pool, const Matrix& weight, std::span<const float> importance,
                          const ScaleSearchOptions& options, const LayerGrid& grid);

}  // namespace nibble::solver
