// SPDX-License-Identifier: Apache-2.0
// In which order the modifiers meet each block, on which calibration stream, and after which forward. The
// pipelines of llm-compressor map on one walk over the blocks: `independent` sweeps the model once a
// modifier, and because a sweep reads block l only after the sweep before it has changed block l, the sweeps
// can run side by side, one block at a time, each on a stream of its own.
#pragma once

#include <string>
#include <vector>

#include "nibble/options.h"
#include "session/lifecycle.h"

namespace nibble {

// Modifiers that run one after the other on the same statistics.
struct WalkPhase {
  std::vector<std::size_t> modifiers;      // of the lifecycle
  int stream = -1;                         // -1: none of them needs data
  std::vector<std::vector<int>> segments;  // stages of a block whose statistics are gathered together
  bool moves_stream = false;               // the stream goes on to the next block after this phase
};

struct WalkPlan {
  std::vector<WalkPhase> phases;
  int streams = 0;
  // How many of the first sequences also run through the original model, for modifiers that compare with it;
  // may be more than there are.
  std::int64_t compared_sequences = 0;
  bool propagates_error = true;  // streams see the changed weights
  int blocks_at_once = 1;
  std::string name;  // "independent", "sequential", "basic", "stage-wise", "data_free"
};

// Whether a modifier has to see data: it says so, or needs a statistic of some module.
bool needs_data(const Modifier& modifier, const ModelState& state);

// Whether the inputs of a module can be seen: inside the blocks all, outside those of linears.
bool is_observed(const ModuleInfo& module);

// Refuses a modifier that asks about a module whose inputs are not seen.
Result<WalkPlan> plan_walk(const Options& options, const Lifecycle& lifecycle, const ModelState& state);

}  // namespace nibble
