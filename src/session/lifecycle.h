// SPDX-License-Identifier: Apache-2.0
// The modifiers of a run and the order of their steps. A Session's state lives here and in ModelState: two
// runs in one process share nothing.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "modify/modifier.h"
#include "session/recipe.h"

namespace nibble {

enum class Pipeline { kDataFree, kBasic, kSequential, kIndependent };
std::string_view to_string(Pipeline pipeline);
// Accepts data_free, datafree and data-free; empty is independent.
Result<Pipeline> pipeline_from_string(std::string_view name);

// Which pipeline runs a modifier, and why when it is not the one that was asked for.
struct PipelineChoice {
  Pipeline pipeline = Pipeline::kDataFree;
  std::string note;
};
PipelineChoice choose_pipeline(const ModifierConfig& config, Pipeline wished);

class Lifecycle {
 public:
  // Makes the modifiers and initializes them in the order of the recipe.
  static Result<Lifecycle> create(const Recipe& recipe, ModelState& state, EventSink& events);

  Status start(ModelState& state);
  // Every modifier in turn, on a unit whose statistics are complete. Thread-safe for different units.
  Result<std::vector<LayerReport>> apply(UnitWork& unit, Context& context) const;
  // One of them.
  Result<std::vector<LayerReport>> apply(std::size_t modifier, UnitWork& unit, Context& context) const;
  Status end(ModelState& state);
  Status finalize(ModelState& state);

  const std::vector<std::unique_ptr<Modifier>>& modifiers() const { return modifiers_; }

 private:
  enum class Stage { kInitialized, kStarted, kEnded, kFinalized };
  explicit Lifecycle(EventSink& events) : events_(&events) {}
  void tell(std::string_view step, const Modifier& modifier);

  std::vector<std::unique_ptr<Modifier>> modifiers_;
  EventSink* events_;
  Stage stage_ = Stage::kInitialized;
};

}  // namespace nibble
