// SPDX-License-Identifier: Apache-2.0
#include "session/lifecycle.h"

#include <fmt/format.h>

#include <array>

#include "base/check.h"
#include "base/suggest.h"

namespace nibble {
namespace {

struct PipelineName {
  Pipeline pipeline;
  std::string_view name;
};
constexpr std::array kNames{
    PipelineName{Pipeline::kDataFree, "data_free"},    PipelineName{Pipeline::kBasic, "basic"},
    PipelineName{Pipeline::kSequential, "sequential"}, PipelineName{Pipeline::kIndependent, "independent"},
    PipelineName{Pipeline::kDataFree, "datafree"},     PipelineName{Pipeline::kDataFree, "data-free"},
};

// These need every block's inputs as the blocks before it, already changed, produce them.
bool needs_order(const std::string& class_name) {
  return class_name == "GPTQModifier" || class_name == "SparseGPTModifier" || class_name == "AWQModifier";
}

}  // namespace

std::string_view to_string(Pipeline pipeline) {
  for (const PipelineName& entry : kNames) {
    if (entry.pipeline == pipeline) return entry.name;
  }
  CHECK(false, "a pipeline without a name");
  return {};
}

Result<Pipeline> pipeline_from_string(std::string_view name) {
  if (name.empty()) return Pipeline::kIndependent;
  for (const PipelineName& entry : kNames) {
    if (entry.name == name) return entry.pipeline;
  }
  const std::vector<std::string> names{"data_free", "basic", "sequential", "independent"};
  return usage_error(fmt::format("pipeline \"{}\" is unknown; allowed are {}", name, join_or(names)),
                     did_you_mean(name, names));
}

PipelineChoice choose_pipeline(const ModifierConfig& config, Pipeline wished) {
  if (!config.requires_calibration_data()) {
    if (wished == Pipeline::kDataFree || wished == Pipeline::kIndependent) return {Pipeline::kDataFree, {}};
    return {Pipeline::kDataFree, fmt::format("{} needs no data: it runs data_free", config.class_name())};
  }
  if (wished == Pipeline::kIndependent || wished == Pipeline::kSequential) return {Pipeline::kSequential, {}};
  if (wished == Pipeline::kDataFree || needs_order(config.class_name())) {
    return {Pipeline::kSequential,
            fmt::format("{} needs the inputs of each layer: it runs sequential, not {}", config.class_name(),
                        to_string(wished))};
  }
  return {Pipeline::kBasic, {}};
}

Result<Lifecycle> Lifecycle::create(const Recipe& recipe, ModelState& state, EventSink& events) {
  Lifecycle lifecycle(events);
  for (const ModifierConfig& config : recipe.modifiers) {
    TRY_ASSIGN(std::unique_ptr<Modifier> modifier, make_modifier(config));
    lifecycle.tell("initialize", *modifier);
    TRY(check_patterns(config.arguments.values, state.model).at(config.class_name()));
    TRY(modifier->initialize(state));
    lifecycle.modifiers_.push_back(std::move(modifier));
  }
  return lifecycle;
}

void Lifecycle::tell(std::string_view step, const Modifier& modifier) {
  events_->on_event({.kind = Event::Kind::kDebug,
                     .name = std::string(step),
                     .text = fmt::format("{} {}", step, modifier.class_name()),
                     .fields = {{"modifier", modifier.class_name()}}});
}

Status Lifecycle::start(ModelState& state) {
  CHECK(stage_ == Stage::kInitialized, "calibration starts twice");
  for (const auto& modifier : modifiers_) {
    tell("calibration_start", *modifier);
    TRY(modifier->on_calibration_start(state));
  }
  stage_ = Stage::kStarted;
  return {};
}

Result<std::vector<LayerReport>> Lifecycle::apply(UnitWork& unit, Context& context) const {
  std::vector<LayerReport> reports;
  for (std::size_t k = 0; k < modifiers_.size(); ++k) {
    TRY_ASSIGN(std::vector<LayerReport> part, apply(k, unit, context));
    for (LayerReport& report : part) reports.push_back(std::move(report));
  }
  return reports;
}

Result<std::vector<LayerReport>> Lifecycle::apply(std::size_t modifier, UnitWork& unit,
                                                  Context& context) const {
  CHECK(stage_ == Stage::kStarted, "a unit outside of calibration");
  Modifier& one = *modifiers_[modifier];
  return one.on_sequential_epoch_end(unit, context).at(one.class_name());
}

Status Lifecycle::end(ModelState& state) {
  CHECK(stage_ == Stage::kStarted, "calibration ends without a start");
  for (const auto& modifier : modifiers_) {
    tell("calibration_end", *modifier);
    TRY(modifier->on_calibration_end(state));
  }
  stage_ = Stage::kEnded;
  return {};
}

Status Lifecycle::finalize(ModelState& state) {
  CHECK(stage_ == Stage::kEnded, "finalize before the end of calibration");
  for (const auto& modifier : modifiers_) {
    tell("finalize", *modifier);
    TRY(modifier->finalize(state));
  }
  stage_ = Stage::kFinalized;
  return {};
}

}  // namespace nibble
