// SPDX-License-Identifier: Apache-2.0
// QuantizationModifier: round to nearest. Scales come from the weight's observer (llm-compressor
// modifiers/quantization/quantization/base.py).
#pragma once

#include "modify/modifier.h"

namespace nibble {

class QuantizationModifier final : public Modifier {
 public:
  using Modifier::Modifier;
  static Result<std::unique_ptr<Modifier>> make(const ModifierConfig& config);

  Status initialize(ModelState& state) override;
  unsigned needs(const ModelState& state, const ModuleInfo& module) const override;
  // The reference rounds at save only: blocks that follow are calibrated with unrounded weights.
  bool changes_weights(const ModelState& state) const override { return !state.rules.strict; }
  Result<std::vector<LayerReport>> on_sequential_epoch_end(UnitWork& unit, Context& context) override;

 private:
  bool is_strict_ = false;
};

// --- shared by the quantizing modifiers ---

// Attaches the schemes of a quantizing modifier and checks that groups are full where the reference demands
// it.
Status initialize_quantization(const ModifierConfig& config, ModelState& state);

// What a module's scheme needs, whoever rounds: parameters of activations, keys and values, importance.
unsigned quantization_needs(const ModelState& state, const ModuleInfo& module);

// Whether the module's scheme has a global scale, which it shares with siblings.
bool has_global_scale(const QuantizationScheme* scheme);
// Equal for the siblings that runtimes fuse into one product, so that their global scales must agree; the
// module's own name where there is no global scale.
std::string global_scale_key(const ModuleInfo& module, const QuantizationScheme* scheme);

// The scales that the observer of the scheme finds. `global_scale` 0: none, or its own.
Result<WeightParams> observe_module(const ModuleWork& work, float global_scale, ThreadPool& pool);
// Of every module that gets codes, siblings under one global scale.
Result<std::vector<std::optional<WeightParams>>> observe_unit(const UnitWork& unit, ThreadPool& pool);

// Rounds one weight to nearest; `params` nullopt: min-max, in one pass. The error is that of the outputs
// where there is a Hessian.
Result<LayerReport> round_module(ModuleWork& work, const std::optional<WeightParams>& params,
                                 std::string_view modifier, ThreadPool& pool);

}  // namespace nibble
