// SPDX-License-Identifier: Apache-2.0
// Memory and time of a calibrated run before it starts. The memory is also what the run keeps to: activations
// wait in memory only where block, statistics and solvers leave room, and chunks of tokens are as long as
// fits.
#pragma once

#include "session/calibration_data.h"
#include "session/estimate.h"
#include "session/walk_plan.h"

namespace nibble {

struct CalibrationMemory {
  std::uint64_t fixed = 0;       // program, libraries, mapped pages in use
  std::uint64_t block = 0;       // the blocks in work: operators, stored form, codes
  std::uint64_t statistics = 0;  // of the heaviest stage or block, and what a solver takes
  std::uint64_t per_token = 0;   // activations of one token in a forward
  std::uint64_t streams = 0;     // hidden states at the input of a block
  std::uint64_t buffers = 0;     // those, and what waits between stages

  // Tokens that go through a block together, at most; results do not depend on it.
  std::int64_t chunk_tokens(std::uint64_t budget) const;
  // What is left for activations that wait.
  std::uint64_t buffer_budget(std::uint64_t budget) const;
  std::uint64_t peak(std::uint64_t budget) const;

 private:
  std::uint64_t working(std::uint64_t budget) const;
};

struct CalibrationNeeds {
  const Checkpoint& checkpoint;
  const Options& options;
  const ModelState& state;
  const OutputPlan& plan;
  const WalkPlan& walk;
  const Lifecycle& lifecycle;
  const CalibrationData* data = nullptr;
};

// The widest input of a linear in a block that is no expert's: of one stage's input that waits.
std::int64_t widest_input(const ModelDescription& model);

Result<CalibrationMemory> calibration_memory(const CalibrationNeeds& needs);
// From a product of a few milliseconds on this machine.
Result<double> calibration_seconds(const CalibrationNeeds& needs, ThreadPool& pool);

}  // namespace nibble
