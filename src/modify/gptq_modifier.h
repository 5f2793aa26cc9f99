// SPDX-License-Identifier: Apache-2.0
// GPTQModifier: error-compensated rounding. Under strict rules llm-compressor's (modifiers/gptq/base.py),
// otherwise ours (gptq.h), whose parts are arguments of the recipe.
#pragma once

#include <set>

#include "modify/gptq.h"
#include "modify/layer_target.h"
#include "modify/modifier.h"

namespace nibble {

class GptqModifier final : public Modifier {
 public:
  using Modifier::Modifier;
  static Result<std::unique_ptr<Modifier>> make(const ModifierConfig& config);

  Status initialize(ModelState& state) override;
  unsigned needs(const ModelState& state, const ModuleInfo& module) const override;
  std::int64_t compared_sequences() const override { return correction_.sequences; }
  Grain grain(const ModelState&) const override { return Grain::kStage; }
  Result<std::vector<LayerReport>> on_sequential_epoch_end(UnitWork& unit, Context& context) override;

 private:
  // What the modules of a unit share.
  struct Shared {
    UnitShifts shifts;
    GptqMetrics metrics;
  };
  Result<LayerReport> compress(ModuleWork& work, const WeightParams& observed, Shared& shared,
                               ThreadPool& pool) const;
  Result<GptqResult> solve_own(const ModuleWork& work, const LayerTarget& target, const QuantParams& observed,
                               const Matrix* keep, GptqMetrics& metrics, ThreadPool& pool) const;
  Result<GptqResult> solve_strict(const ModuleWork& work, const LayerTarget& target,
                                  const QuantParams& observed, ThreadPool& pool) const;
  Status store(ModuleWork& work, const GptqResult& result, const WeightParams& observed,
               ThreadPool& pool) const;
  // The zeros of the weight stay, because it was pruned or because the recipe says so.
  bool keeps_zeros(const ModuleWork& work, const Matrix& weight) const;

  bool is_strict_ = false;
  CorrectionOptions correction_;
  std::set<std::string, std::less<>> pruned_;
};

}  // namespace nibble
