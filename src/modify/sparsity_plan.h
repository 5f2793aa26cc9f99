// SPDX-License-Identifier: Apache-2.0
// Which linears a pruning modifier prunes and how much of each: its targets (linears, or layers that hold
// some), `sparsity` as one value, a list or a map, and profiles over the blocks (OWL, DLP, KL; owl.h). The
// common base of SparseGPTModifier and WandaPruningModifier (llm-compressor pruning/sparsegpt/sgpt_base.py).
#pragma once

#include <map>
#include <vector>

#include "modify/layer_target.h"
#include "modify/mask_plan.h"
#include "modify/modifier.h"
#include "modify/solver/mask.h"

namespace nibble {

// Linears under the targets of a recipe that are not ignored, each with the number of its target. Tied heads
// are left out: their weight is the embedding's.
struct PrunedModule {
  std::size_t module = 0;  // index into ModelDescription::modules
  std::size_t target = 0;
};
struct PruneTargets {
  std::vector<PrunedModule> modules;  // in module order
  std::size_t targets = 0;            // modules that match a target
};
Result<PruneTargets> prune_targets(ModelState& state, const std::vector<std::string>& targets,
                                   const std::vector<std::string>& ignore);

// The report row of a module that holds its new weight: also how many zeros it has.
LayerReport pruned_report(ThreadPool& pool, const ModuleWork& work, std::string_view modifier, double signal,
                          double noise);

class SparsityModifier : public Modifier, public MaskMaker {
 public:
  using Modifier::Modifier;

  Status initialize(ModelState& state) override;
  Grain grain(const ModelState&) const override { return Grain::kStage; }
  std::int64_t compared_sequences() const override { return correction_.sequences; }
  unsigned survey_needs(const ModelState& state, const ModuleInfo& module) const override;
  Status on_survey(const UnitWork& block, Context& context) override;
  bool measures_divergence() const override;
  Status on_trial(UnitWork& block, Context& context) override;
  void on_divergences(const std::map<int, double>& by_block) override { profile_ = by_block; }
  Status on_calibration_start(ModelState& state) override;
  std::optional<PlannedMask> planned_mask(const ModuleInfo& module) const override;

 protected:
  bool is_strict() const { return is_strict_; }
  const CorrectionOptions& correction() const { return correction_; }
  bool is_pruned(const ModuleInfo& module) const;
  // Zeros that earlier modifiers of the recipe made stay.
  bool has_earlier_mask(const ModuleInfo& module) const { return preserved_.contains(module.name); }
  // What to prune of a module; nullopt: it is none of ours.
  std::optional<PrunePattern> pattern_of(const ModuleInfo& module) const;

 private:
  bool has_profile() const;
  Result<std::vector<double>> profile_sparsities(const ModelState& state) const;
  Status read_sparsities(const ModelState& state, const PruneTargets& found);
  Status read_list(const RecipeValue::List& list, const ModelDescription& model, const PruneTargets& found);
  // Modules that the map does not name are not pruned.
  Status read_map(const RecipeValue::Map& map, const ModelDescription& model, const PruneTargets& found);

  bool is_strict_ = false;
  CorrectionOptions correction_;
  PrunePattern structure_;                               // of mask_structure; `sparsity` is not used
  std::map<std::string, double, std::less<>> sparsity_;  // by module name
  std::set<std::string, std::less<>> preserved_;
  std::map<int, double> profile_;  // by block: outliers (OWL), importance (DLP) or divergence (KL)
};

}  // namespace nibble
