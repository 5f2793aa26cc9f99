// SPDX-License-Identifier: Apache-2.0
// What modifiers want to know about the modules of a block, and the answers.
#pragma once

#include <map>
#include <span>
#include <string>

#include "calibrate/statistics_tap.h"
#include "model/config.h"
#include "modify/modifier.h"

namespace nibble {

class Gatherer {
 public:
  Gatherer(ThreadPool& pool, const ModelConfig& config, const ModelState& state, DType dtype,
           bool all_experts)
      : config_(config), state_(state), tap_(pool, dtype, all_experts) {}

  // Adds what a modifier needs to know about a module, as Statistic bits.
  Status want(const ModuleInfo& module, unsigned needs);

  bool wants_anything() const { return wants_ != kNoStatistic; }
  bool wants(unsigned bits) const { return (wants_ & bits) != 0; }
  // Whether this stage has to be run, not only looked at: something about its outputs is wanted.
  bool wants_outputs(int stage) const { return stage >= 0 && stage < 4 && outputs_[stage]; }
  StatisticsTap& tap() { return tap_; }

  // The tap has seen everything.
  Status finish();
  // Null for modules about which nothing is wanted.
  const ModuleStatistics* of(const ModuleInfo& module) const;
  ModuleStatistics* of(const ModuleInfo& module);

 private:
  Status collect(const ModuleInfo& module, unsigned needs, ModuleStatistics& statistics) const;

  const ModelConfig& config_;
  const ModelState& state_;
  StatisticsTap tap_;
  unsigned wants_ = kNoStatistic;
  bool outputs_[4] = {};
  std::map<const ModuleInfo*, unsigned> needs_;
  std::map<const ModuleInfo*, ModuleStatistics> results_;
};

}  // namespace nibble
