// SPDX-License-Identifier: Apache-2.0
// SmoothQuantModifier and LogarithmicEqualizationModifier: outliers of activations moved into the weights
// that read them (llm-compressor modifiers/transform/smoothquant/base.py). Gemma 2 and 3: where the
// reference's table names the norm behind attention for the MLP, we take the one before the MLP, the only one
// that can be folded.
#pragma once

#include "modify/modifier.h"
#include "modify/smooth_mapping.h"
#include "modify/smooth_search.h"
#include "modify/smoothquant.h"

namespace nibble {

class SmoothQuantModifier final : public Modifier {
 public:
  using Modifier::Modifier;
  static Result<std::unique_ptr<Modifier>> make(const ModifierConfig& config);

  Status initialize(ModelState& state) override;
  unsigned needs(const ModelState& state, const ModuleInfo& module) const override;
  Grain grain(const ModelState&) const override { return Grain::kBlock; }
  bool preserves_function() const override { return true; }
  Result<std::vector<LayerReport>> on_sequential_epoch_end(UnitWork& unit, Context& context) override;

 private:
  Result<SmoothMappings> resolve(const ModelState& state) const;
  // Mappings all of whose layers are ignored are left out.
  Status drop_ignored(ModelState& state);
  bool searches() const;
  bool can_search(const SmoothWork& work) const;
  Result<LayerReport> smooth(const SmoothMapping& mapping, const SmoothWork& work, ThreadPool& pool) const;
  // By the formula, and by the least rounding noise.
  Result<std::vector<float>> formula_scales(const SmoothWork& work, ThreadPool& pool) const;
  SmoothChoice searched_scales(const SmoothMapping& mapping, const SmoothWork& work, ThreadPool& pool) const;

  const ModelDescription* model_ = nullptr;
  std::vector<SmoothMapping> mappings_;
  bool is_strict_ = false;
};

}  // namespace nibble
