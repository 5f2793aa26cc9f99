// SPDX-License-Identifier: Apache-2.0
// Proves that zeros stay: counts those of pruned modules in the weights as they decode, and the places that
// an earlier modifier of the recipe had pruned and that are not zero any more.
#pragma once

#include <cstdint>
#include <vector>

#include "modify/modifier.h"
#include "session/lifecycle.h"

namespace nibble {

class MaskWatch {
 public:
  // Before modifier `index` works on the unit: notes the zeros of modules that earlier ones pruned.
  MaskWatch(const Lifecycle& lifecycle, std::size_t index, const UnitWork& unit);
  // After it: fills in `zeros` and `zeros_lost` of the reports.
  Status compare(const UnitWork& unit, ThreadPool& pool, std::vector<LayerReport>& reports) const;

 private:
  struct Watched {
    bool is_pruned = false;            // by this modifier or an earlier one
    std::vector<std::uint64_t> zeros;  // by the earlier ones; empty without
  };
  std::vector<Watched> modules_;  // of the unit
};

}  // namespace nibble
