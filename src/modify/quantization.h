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
  Result<std::vector<LayerReport>> on_sequential_epoch_end(UnitWork& unit, Context& context) override;
};

// Attaches the schemes of a quantizing modifier and checks that groups are full where the reference demands
// it.
Status initialize_quantization(const ModifierConfig& config, ModelState& state);

// Whether the module's scheme has a global scale, which it shares with siblings of the same unit.
bool has_global_scale(const QuantizationScheme* scheme);

// Rounds the weights of a unit to nearest, siblings with tensor_group schemes under one global scale. A
// report a quantized module.
Result<std::vector<LayerReport>> round_unit(UnitWork& unit, std::string_view modifier, ThreadPool& pool);

}  // namespace nibble
