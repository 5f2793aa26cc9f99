// SPDX-License-Identifier: Apache-2.0
// What modifiers want to know about the modules of a block, and the answers.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "calibrate/statistics_file.h"
#include "calibrate/statistics_tap.h"
#include "model/config.h"
#include "modify/modifier.h"

namespace nibble {

// A linear that reads what a norm gives: its input's ranges are the norm's outputs'. Null when no linear of
// the block reads it.
const ModuleInfo* reader_of(const ModelDescription& model, const ModuleInfo& norm);

class Gatherer {
 public:
  struct Settings {
    DType dtype = DType::kF32;  // the model's
    bool all_experts = true;
    std::int64_t compared_sequences = 0;  // the first so many are compared with the original model
    std::int64_t tokens = 0;              // of the calibration
  };
  Gatherer(ThreadPool& pool, const ModelConfig& config, const ModelState& state, Settings settings)
      : config_(config),
        state_(state),
        settings_(settings),
        tap_(pool, settings.dtype, settings.all_experts) {}

  // Before the first wish: every input that is watched is watched column by column too, which costs little
  // and lets a file of statistics serve more recipes.
  void keep_more() { keeps_more_ = true; }
  // Adds what a modifier needs to know about a module, as Statistic bits.
  Status want(const ModuleInfo& module, unsigned needs);

  bool wants_anything() const { return wants_ != kNoStatistic; }
  bool wants(unsigned bits) const { return (wants_ & bits) != 0; }
  // Whether this stage has to be run, not only looked at: something about its outputs is wanted.
  bool wants_outputs(int stage) const { return stage >= 0 && stage < 4 && outputs_[stage]; }
  StatisticsTap& tap() { return tap_; }

  // The tap has seen everything.
  Status finish();
  // Instead of a forward: what is wanted comes from a set of a statistics file (statistics_use.h says whether
  // it is there).
  Status load(const StatisticsFile& file, const std::string& set);
  // After finish(): all that was gathered.
  void add_to(StatisticsPart& part, const std::string& set) const;
  // Null for modules about which nothing is wanted.
  const ModuleStatistics* of(const ModuleInfo& module) const;
  ModuleStatistics* of(const ModuleInfo& module);

 private:
  const InputStatistics* input_of(const ModuleInfo& module) const;
  Status collect(const ModuleInfo& module, unsigned needs, ModuleStatistics& statistics) const;
  Status load(const StatisticsFile& file, const std::string& set, const ModuleInfo& module, unsigned needs,
              ModuleStatistics& statistics);
  Status load_output(const StatisticsFile& file, const std::string& set, const ModuleInfo& module,
                     ModuleStatistics& statistics) const;

  const ModelConfig& config_;
  const ModelState& state_;
  Settings settings_;
  StatisticsTap tap_;
  unsigned wants_ = kNoStatistic;
  bool outputs_[4] = {};
  std::map<const ModuleInfo*, unsigned> needs_;
  std::map<const ModuleInfo*, ModuleStatistics> results_;
  bool keeps_more_ = false;
  std::map<const StatisticsFile::Entry*, std::unique_ptr<SavedInput>> loaded_;
};

}  // namespace nibble
