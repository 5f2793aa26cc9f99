// SPDX-License-Identifier: Apache-2.0
// One run of oneshot: prepare() finds every error that can be found without reading weights, plan() says what
// will happen, run() does it. The session's state is inside; nothing is global.
#pragma once

#include <memory>
#include <string>

#include "base/context.h"
#include "base/json_fwd.h"
#include "base/memory_budget.h"
#include "checkpoint/output_directory.h"
#include "nibble/options.h"
#include "session/calibration_data.h"
#include "session/calibration_estimate.h"
#include "session/estimate.h"
#include "session/ledger.h"
#include "session/lifecycle.h"
#include "session/model_card.h"
#include "session/output_plan.h"
#include "session/report.h"
#include "session/statistics_use.h"
#include "session/walk_plan.h"

namespace nibble {

class Job {
 public:
  // The context's thread pool must outlive the job.
  static Result<std::unique_ptr<Job>> prepare(const Options& options, Context& context);

  // The report as far as it is known before the run: modules, bytes, patterns, warnings.
  const RunReport& planned() const { return report_; }
  const OutputPlan& output() const { return output_; }
  const Estimate& estimate() const { return estimate_; }
  // With dry_run or without output_dir nothing is written.
  Result<RunReport> run(Context& context);

 private:
  Job(const Options& options, std::unique_ptr<Checkpoint> checkpoint, ModelDescription model);
  Status read_recipe(Context& context);
  bool has_dataset() const;
  Status check_data_is_given() const;
  Status read_data(Context& context);
  Status read_statistics(Context& context);
  Status check_saved_statistics(bool needed) const;
  Status check_loss_mask() const;
  StatisticsRun statistics_run() const;
  Status plan_files(Context& context);
  void resume_only_what_exists(Context& context);
  Status open_writer(const OutputDirectory& output, Context& context);
  Status run_modifiers(const std::filesystem::path& folder, Context& context);
  Status estimate_walk(Context& context);
  Status check_output() const;
  Result<RunReport> run_phases(OutputDirectory* output, Context& context);
  Status write_small_files(OutputDirectory& output);
  Result<std::string> recipe_text() const;
  void warn(Context& context, std::string text);

  Options options_;
  std::unique_ptr<Checkpoint> checkpoint_;
  ModelDescription model_;
  ModelState state_;
  Recipe recipe_;
  std::optional<Lifecycle> lifecycle_;
  StorageRule storage_;
  OutputPlan output_;
  SourceCard card_;
  Estimate estimate_;
  WalkPlan walk_;
  std::optional<CalibrationData> data_;
  std::optional<StatisticsFile> statistics_;  // instead of data
  std::optional<StatisticsSaver> saver_;
  bool is_walk_ = false;  // forward passes, or changes of what is not quantized
  std::unique_ptr<ShardedWriter> writer_;
  std::optional<Ledger> ledger_;
  CalibrationMemory memory_;  // of a walk
  std::uint64_t memory_budget_ = default_memory_budget_bytes();
  RunReport report_;
};

// prepare() and run(). With dry_run the report is the plan.
Result<RunReport> run_oneshot(const Options& options, Context& context);

// The plan as --dry-run shows it: report.json's keys and `estimate`.
Json plan_json(const Job& job);
std::string plan_text(const Job& job);

}  // namespace nibble
