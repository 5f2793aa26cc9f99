// SPDX-License-Identifier: Apache-2.0
// SparseGPTModifier and WandaPruningModifier. Under strict rules those of llm-compressor
// (modifiers/pruning/sparsegpt/, modifiers/pruning/wanda/); otherwise ours: better masks, exact least squares
// on what is kept, target and bias correction, each an argument of the recipe.
#pragma once

#include "modify/sparsegpt.h"
#include "modify/sparsity_plan.h"

namespace nibble {

class SparseGptModifier final : public SparsityModifier {
 public:
  using SparsityModifier::SparsityModifier;
  static Result<std::unique_ptr<Modifier>> make(const ModifierConfig& config);

  unsigned needs(const ModelState& state, const ModuleInfo& module) const override;
  Result<std::vector<LayerReport>> on_sequential_epoch_end(UnitWork& unit, Context& context) override;

 private:
  Result<LayerReport> prune_module(ModuleWork& work, const PrunePattern& pattern, UnitShifts& shifts,
                                   ThreadPool& pool) const;
};

class WandaPruningModifier final : public SparsityModifier {
 public:
  using SparsityModifier::SparsityModifier;
  static Result<std::unique_ptr<Modifier>> make(const ModifierConfig& config);

  unsigned needs(const ModelState& state, const ModuleInfo& module) const override;
  Result<std::vector<LayerReport>> on_sequential_epoch_end(UnitWork& unit, Context& context) override;

 private:
  Result<LayerReport> prune_plainly(ModuleWork& work, const PrunePattern& pattern, ThreadPool& pool) const;
  Result<LayerReport> prune_well(ModuleWork& work, const PrunePattern& pattern, UnitShifts& shifts,
                                 ThreadPool& pool) const;
};

}  // namespace nibble
