// SPDX-License-Identifier: Apache-2.0
// The pipeline without forward passes: units are loaded, modified, encoded, written and dropped. Small units
// run side by side, one a thread; a large one has all threads to itself. Only what is in work is in memory.
#pragma once

#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/sharded_writer.h"
#include "session/lifecycle.h"
#include "session/output_plan.h"
#include "session/report.h"

namespace nibble {

struct DataFreeRun {
  const Checkpoint& checkpoint;
  const OutputPlan& plan;
  const Lifecycle& lifecycle;
  ShardedWriter* writer = nullptr;  // null: nothing is written, the report is all
  std::uint64_t memory_budget = 0;  // bytes
};

// `rows` are those of plan.quantized; each gets the changes of its module. Stops between units with
// kInterrupted.
Status run_data_free(const DataFreeRun& run, std::vector<ModuleRow>& rows, Context& context);

// Bytes that a unit takes while it is in work: source, converted weight and encoded tensors.
std::uint64_t unit_bytes(const Checkpoint& checkpoint, const OutputPlan& plan,
                         const std::vector<std::size_t>& unit);
// Units of at most this many bytes run side by side on `threads` threads.
std::uint64_t side_by_side_limit(std::uint64_t memory_budget, int threads);

}  // namespace nibble
