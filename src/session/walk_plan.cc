// SPDX-License-Identifier: Apache-2.0
#include "session/walk_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/suggest.h"
#include "model/block.h"
#include "modify/module_pattern.h"

namespace nibble {
namespace {

using Segments = std::vector<std::vector<int>>;

const Segments& whole_block() {
  static const Segments segments{{0, 1, 2, 3}};
  return segments;
}

const Segments& every_stage() {
  static const Segments segments{{0}, {1}, {2}, {3}};
  return segments;
}

unsigned all_needs(const Modifier& modifier, const ModelState& state) {
  unsigned needs = kNoStatistic;
  for (const ModuleInfo& module : state.model.modules) needs |= modifier.needs(state, module);
  return needs;
}

Error unknown_target(const std::string& target, const ModelDescription& model) {
  std::vector<std::string> names;
  for (const ModuleInfo& module : model.modules) {
    names.push_back(module.name);
    if (std::find(names.begin(), names.end(), module.class_name) == names.end())
      names.push_back(module.class_name);
  }
  std::string hint = did_you_mean(target, names);
  if (hint.empty()) hint = "`nibble inspect MODEL --tree` lists the modules and their classes";
  return usage_error(fmt::format("sequential_targets: \"{}\" matches no module of this model", target),
                     std::move(hint));
}

// A cut after every stage that holds a target. Blocks always end a segment.
Result<Segments> segments_of_targets(const std::vector<std::string>& targets, const ModelState& state) {
  std::set<int> last_stages{Block::kStages - 1};
  for (const std::string& target : targets) {
    TRY_ASSIGN(const ModuleTarget pattern, ModuleTarget::parse(target));
    bool matched = false;
    for (const ModuleInfo& module : state.model.modules) {
      TRY(pattern.check(module.name).at("sequential_targets"));
      if (!matches(pattern, module)) continue;
      matched = true;
      if (module.stage >= 0) last_stages.insert(module.stage);
    }
    if (!matched) return unknown_target(target, state.model);
  }
  Segments segments(1);
  for (int stage = 0; stage < Block::kStages; ++stage) {
    segments.back().push_back(stage);
    if (last_stages.contains(stage) && stage + 1 < Block::kStages) segments.emplace_back();
  }
  return segments;
}

class WalkPlanner {
 public:
  WalkPlanner(const Options& options, const Lifecycle& lifecycle, const ModelState& state)
      : options_(options), modifiers_(lifecycle.modifiers()), state_(state) {}

  Result<WalkPlan> run() {
    TRY_ASSIGN(const Pipeline wished, pipeline_from_string(options_.pipeline));
    plan_.propagates_error = options_.propagate_error && wished != Pipeline::kBasic;
    plan_.blocks_at_once = static_cast<int>(options_.sequential_targets_per_subgraph);
    TRY_ASSIGN(inner_, segments_of_targets(options_.sequential_targets, state_));
    for (const auto& modifier : modifiers_) {
      TRY(check_observed(*modifier));
      needs_data_.push_back(needs_data(*modifier, state_));
      if ((all_needs(*modifier, state_) & kInputShift) != 0)
        plan_.compared_sequences = std::max(plan_.compared_sequences, modifier->compared_sequences());
    }
    const bool has_data = std::find(needs_data_.begin(), needs_data_.end(), true) != needs_data_.end();
    const bool stagewise = !options_.reference && options_.pipeline.empty() &&
                           options_.sequential_targets.empty() && plan_.propagates_error &&
                           plan_.blocks_at_once == 1;
    if (!has_data) {
      plan_.name = "data_free";
      plan_independent();
    } else if (stagewise) {
      plan_.name = "stage-wise";
      plan_stagewise();
    } else if (wished == Pipeline::kSequential || wished == Pipeline::kBasic) {
      plan_.name = to_string(wished);
      plan_together();
    } else {
      plan_.name = "independent";
      plan_independent();
    }
    if (plan_.blocks_at_once > 1 || !plan_.propagates_error) {
      // Nothing changes between the stages that a finer cut would show.
      for (WalkPhase& phase : plan_.phases) phase.segments = whole_block();
    }
    return std::move(plan_);
  }

 private:
  Status check_observed(const Modifier& modifier) const {
    for (const ModuleInfo& module : state_.model.modules) {
      const unsigned needs = modifier.needs(state_, module);
      if (needs == kNoStatistic) continue;
      // The table of logits of all tokens is what the walk never holds.
      if (module.block < 0 && (needs & kOutputParams) != 0) {
        return usage_error(
            fmt::format("{} has static output_activations for {}, which stands outside of the blocks; "
                        "only inputs are observed there",
                        modifier.class_name(), module.name),
            "make its output_activations dynamic, or add it to ignore");
      }
      if (is_observed(module)) continue;
      return usage_error(
          fmt::format("{} needs the inputs of {}, which are not observed: it stands outside of "
                      "the blocks",
                      modifier.class_name(), module.name),
          "add it to ignore");
    }
    return {};
  }

  Segments segments_for(std::size_t k) const {
    return modifiers_[k]->grain(state_) == Grain::kBlock ? whole_block() : inner_;
  }

  void plan_independent() {
    for (std::size_t k = 0; k < modifiers_.size(); ++k) {
      plan_.phases.push_back({.modifiers = {k},
                              .stream = needs_data_[k] ? plan_.streams++ : -1,
                              .segments = segments_for(k),
                              .moves_stream = needs_data_[k]});
    }
  }

  void plan_together() {
    plan_.streams = 1;
    WalkPhase phase{.modifiers = {}, .stream = 0, .segments = inner_, .moves_stream = true};
    for (std::size_t k = 0; k < modifiers_.size(); ++k) {
      phase.modifiers.push_back(k);
      if (modifiers_[k]->grain(state_) == Grain::kBlock) phase.segments = whole_block();
    }
    plan_.phases.push_back(std::move(phase));
  }

  // Neighbours that work on stages share each stage's statistics; one that needs the whole block is alone.
  void plan_stagewise() {
    plan_.streams = 1;
    for (std::size_t k = 0; k < modifiers_.size(); ++k) {
      const bool whole = modifiers_[k]->grain(state_) == Grain::kBlock;
      const bool joins = !whole && !plan_.phases.empty() && plan_.phases.back().segments.size() > 1;
      if (joins) {
        plan_.phases.back().modifiers.push_back(k);
      } else {
        plan_.phases.push_back({.modifiers = {k},
                                .stream = 0,
                                .segments = whole ? whole_block() : every_stage(),
                                .moves_stream = false});
      }
    }
    plan_.phases.back().moves_stream = true;
  }

  const Options& options_;
  const std::vector<std::unique_ptr<Modifier>>& modifiers_;
  const ModelState& state_;
  std::vector<bool> needs_data_;
  Segments inner_;
  WalkPlan plan_;
};

}  // namespace

bool needs_data(const Modifier& modifier, const ModelState& state) {
  if (modifier.config().requires_calibration_data()) return true;
  for (const ModuleInfo& module : state.model.modules) {
    if (modifier.needs(state, module) != kNoStatistic) return true;
    if (modifier.survey_needs(state, module) != kNoStatistic) return true;
  }
  return false;
}

bool is_observed(const ModuleInfo& module) {
  return module.block >= 0 || module.kind == ModuleKind::kLinear;
}

Result<WalkPlan> plan_walk(const Options& options, const Lifecycle& lifecycle, const ModelState& state) {
  return WalkPlanner(options, lifecycle, state).run();
}

}  // namespace nibble
