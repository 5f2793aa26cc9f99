// SPDX-License-Identifier: Apache-2.0
// Scale and zero point of a group chosen where GPTQ enters it: on the compensated weights, in the precision
// in which the scale is stored, by what the choice costs the layer (reference sheet A3-1 d, e). A wide grid
// of candidates is ranked by the sum of e_j^2 / u_jj^2 under plain rounding; the best ones then run the
// in-group recursion itself, whose sum of push^2 is exactly the group's share of the final loss.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "modify/solver/grid.h"
#include "modify/solver/lanes/lanes.h"

namespace nibble::solver {

struct ScaleSearchOptions {
  bool symmetric = true;
  // Symmetric integer grids have one code more below zero than above: a negative scale turns it to the other
  // side.
  bool allow_negative_scale = false;
  int finalists = 8;       // candidates whose recursion is simulated; 1: ranking alone
  double widest = 1.05;    // candidate ranges as a share of the min-max range ...
  double narrowest = 0.4;  // ... down to this
  int steps = 28;          // per end of the range
};

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
  ScaleSearch(const ScaleSearchOptions& options, const CodeGrid& grid, const ProductFormat& product,
              const ScaleStorage& storage);

  bool symmetric() const { return options_.symmetric; }
  const ScaleStorage& storage() const { return storage_; }
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
  CodeGrid grid_;
  ProductFormat product_;
  ScaleStorage storage_;
  std::vector<Range> ranges_;
};

}  // namespace nibble::solver
