// SPDX-License-Identifier: Apache-2.0
// Statistics files in a run: saved while blocks are calibrated, or used instead of calibration data.
#pragma once

#include <optional>
#include <string>

#include "calibrate/statistics_file.h"
#include "session/calibration_data.h"
#include "session/gather.h"
#include "session/ledger.h"
#include "session/storage.h"
#include "session/walk_plan.h"

namespace nibble {

// The sets of statistics of a run: what modifiers see before the first block, and phase by phase.
inline constexpr const char* kSurveySet = "survey";
std::string set_of_phase(std::size_t phase);

// What a run that saves writes about itself.
struct StatisticsRun {
  const Checkpoint& checkpoint;
  const Options& options;
  const ModelState& state;
  const Lifecycle& lifecycle;
  const WalkPlan& walk;
  const StorageRule& storage;
  const CalibrationData* data = nullptr;
  std::string recipe;
};
Result<StatisticsOrigin> origin_of(const StatisticsRun& run);

// Which set a phase (or the survey) reads: its own, or of a file of the original model the only one.
std::string saved_set(const StatisticsFile& file, const std::string& wished);

// Takes over how the file was calibrated (pipeline, sequential_targets). What the user said otherwise is
// refused.
Status adopt_calibration(const StatisticsFile& file, Options& options);
// Refuses a file of another model, and the first statistic of a module that is needed and not there. Says
// what differs otherwise.
Status check_statistics(const StatisticsFile& file, const StatisticsRun& run,
                        std::vector<std::string>& notes);

// Refuses where the file could not be written, before the run.
Status check_statistics_target(const Options& options);

// The parts of a run's file. Blocks are saved as they come; a resumed run keeps those that are finished.
class StatisticsSaver {
 public:
  static Result<StatisticsSaver> create(const Options& options);

  // Everything gathered for `set` about stages of the blocks from `block` on; `number` counts within them.
  Status save(const std::string& set, int block, int number, const Gatherer& gatherer) const;
  // The blocks before `finished` were saved by the stopped run; what is behind them is dropped.
  Status go_on(int finished, bool has_phases) const;
  Status finish(const StatisticsOrigin& origin) const { return writer_.finish(origin); }
  void discard_parts() const { writer_.discard_parts(); }

 private:
  explicit StatisticsSaver(StatisticsWriter writer) : writer_(std::move(writer)) {}
  StatisticsWriter writer_;
};

}  // namespace nibble
