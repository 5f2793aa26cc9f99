// SPDX-License-Identifier: Apache-2.0
// The pipeline with forward passes: one walk over the blocks. Each is loaded once; modifier by modifier its
// statistics are gathered on the calibration streams, its weights changed and put back, and the streams moved
// on; then it is written and dropped.
#pragma once

#include <filesystem>
#include <functional>
#include <vector>

#include "base/memory_budget.h"
#include "checkpoint/sharded_writer.h"
#include "session/calibration_data.h"
#include "session/ledger.h"
#include "session/report.h"
#include "session/statistics_use.h"
#include "session/storage.h"
#include "session/walk_plan.h"

namespace nibble {

struct CalibratedRun {
  const Checkpoint& checkpoint;
  const Options& options;
  ModelState& state;
  const OutputPlan& plan;
  const WalkPlan& walk;
  const StorageRule& storage;
  Lifecycle& lifecycle;                        // started here: profiles are surveyed first
  const CalibrationData* data = nullptr;       // null: no modifier needs any
  const StatisticsFile* statistics = nullptr;  // instead of data
  const StatisticsSaver* saver = nullptr;      // null: what is gathered is not kept
  ShardedWriter* writer = nullptr;             // null: nothing is written, the report is all
  MemoryBudget& budget;
  std::filesystem::path spill_folder;
  std::int64_t chunk_tokens = 0;  // that go through a block together, at most; 0: one batch
  Ledger* ledger = nullptr;       // null: nothing is written
};

// Fills the rows of the report. Goes on behind what the ledger holds. Stops between chunks and units, with
// kResumable when there is a ledger.
Status run_calibrated(const CalibratedRun& run, RunReport& report, Context& context);

}  // namespace nibble
