// SPDX-License-Identifier: Apache-2.0
// What can be said of the zeros of a module before any weight is read: sparse formats need it to plan the
// bytes of the output.
#pragma once

#include <optional>

#include "model/modules.h"
#include "modify/solver/mask.h"

namespace nibble {

enum class MaskOrigin {
  kRecipe,  // `pattern` says how many zeros there will be at least
  kData,    // a profile over the blocks: known after calibration
  kSource,  // the zeros that the source has stay
};

struct PlannedMask {
  MaskOrigin origin = MaskOrigin::kRecipe;
  PrunePattern pattern{};
};

// Modifiers that make or keep masks; valid after initialize().
class MaskMaker {
 public:
  virtual ~MaskMaker() = default;
  virtual std::optional<PlannedMask> planned_mask(const ModuleInfo& module) const = 0;
};

}  // namespace nibble
