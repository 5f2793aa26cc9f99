// SPDX-License-Identifier: Apache-2.0
// Which layer can be divided by a scale per channel (the smooth layer) and which layers read those channels
// and are multiplied (the balance layers): from the roles of the module tree, or from the patterns of a
// recipe (llm-compressor's mappings; compressed-tensors match_modules_set).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "modify/fields.h"
#include "modify/modifier.h"

namespace nibble {

// Indices into ModelDescription::modules.
struct SmoothMapping {
  std::size_t smooth = 0;
  std::vector<std::size_t> balance;
  // Grouped queries: `heads_per_group` runs of `head_dim` columns read the same run of outputs, so their
  // scales are equal. 1: every column has an output of its own.
  std::int64_t heads_per_group = 1;
  std::int64_t head_dim = 0;
};

// One value a column, made equal where columns read the same output.
std::vector<float> mean_over_groups(const SmoothMapping& mapping, std::span<const float> columns);

struct SmoothMappings {
  std::vector<SmoothMapping> mappings;  // kind by kind in the order of the reference, then by block
  std::vector<std::string> notes;       // pairs that had to be left out, patterns that change the model
};

enum class MappingFamily {
  kNorms,           // norm -> what reads it (SmoothQuant)
  kNormsAndLinears  // also v -> attention output, up -> down (AWQ)
};

// Every pair that leaves the model's function as it is. Strict: where llm-compressor's tables leave experts,
// routers or grouped queries out, so do we.
SmoothMappings role_mappings(const ModelDescription& model, MappingFamily family, bool is_strict);

struct MappingPatterns {
  std::string smooth;
  std::vector<std::string> balance;
  // Path of a module, from the innermost one that holds the mapping, whose input is observed instead of that
  // of the first balance layer. Only one with the very same input is accepted: of other inputs no scale of
  // these columns follows. Empty: none.
  std::string observed = {};
};
// Sets of matches that belong together; each must have one smooth layer of a fitting width.
Result<SmoothMappings> pattern_mappings(const ModelDescription& model,
                                        std::span<const MappingPatterns> patterns);

// The smooth layer and all balance layers of a mapping in a unit; empty when the unit has none of them, an
// error when it has only some.
struct SmoothWork {
  ModuleWork* smooth = nullptr;
  std::vector<ModuleWork*> balance;

  explicit operator bool() const { return smooth != nullptr; }
};
Result<SmoothWork> find_smooth_work(const ModelDescription& model, const SmoothMapping& mapping,
                                    UnitWork& unit);

// Multiplies the columns of the balance layers and divides the smooth layer (smooth_fold.h).
// `scales` has one value a column.
Status fold_scales(ThreadPool& pool, const SmoothMapping& mapping, std::span<const float> scales,
                   const SmoothWork& work);

}  // namespace nibble
