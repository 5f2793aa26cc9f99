// SPDX-License-Identifier: Apache-2.0
// MagnitudePruningModifier and ConstantPruningModifier. In llm-compressor both act while training only; here
// the first prunes at its final sparsity in one shot, and the second has later modifiers of the recipe keep
// the zeros of its targets.
#pragma once

#include "modify/sparsity_plan.h"

namespace nibble {

class MagnitudePruningModifier final : public Modifier, public MaskMaker {
 public:
  using Modifier::Modifier;
  static Result<std::unique_ptr<Modifier>> make(const ModifierConfig& config);

  Status initialize(ModelState& state) override;
  unsigned needs(const ModelState&, const ModuleInfo&) const override { return kNoStatistic; }
  Result<std::vector<LayerReport>> on_sequential_epoch_end(UnitWork& unit, Context& context) override;
  std::optional<PlannedMask> planned_mask(const ModuleInfo& module) const override;

 private:
  std::set<std::string, std::less<>> targets_;
};

class ConstantPruningModifier final : public Modifier, public MaskMaker {
 public:
  using Modifier::Modifier;
  static Result<std::unique_ptr<Modifier>> make(const ModifierConfig& config);

  Status initialize(ModelState& state) override;
  unsigned needs(const ModelState&, const ModuleInfo&) const override { return kNoStatistic; }
  bool changes_weights(const ModelState&) const override { return false; }
  Result<std::vector<LayerReport>> on_sequential_epoch_end(UnitWork& unit, Context& context) override;
  std::optional<PlannedMask> planned_mask(const ModuleInfo& module) const override;

 private:
  std::set<std::string, std::less<>> targets_;
};

}  // namespace nibble
