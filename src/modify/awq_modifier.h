// SPDX-License-Identifier: Apache-2.0
// AWQModifier: scales per input channel, found by search, that make the quantization of a later modifier hurt
// less (awq.h). Under strict rules a candidate of several balance layers is judged by the output of their
// sublayer, as in llm-compressor (modifiers/transform/awq/base.py); otherwise by the exact error of the
// linears on all calibration tokens.
#pragma once

#include "modify/awq.h"
#include "modify/modifier.h"
#include "modify/smooth_mapping.h"

namespace nibble {

class AwqModifier final : public Modifier {
 public:
  using Modifier::Modifier;
  static Result<std::unique_ptr<Modifier>> make(const ModifierConfig& config);

  Status initialize(ModelState& state) override;
  unsigned needs(const ModelState& state, const ModuleInfo& module) const override;
  Grain grain(const ModelState&) const override { return Grain::kBlock; }
  bool preserves_function() const override { return true; }
  Status on_calibration_start(ModelState& state) override;
  Result<std::vector<LayerReport>> on_sequential_epoch_end(UnitWork& unit, Context& context) override;

 private:
  // Whether any layer of a mapping will be quantized; the others are left alone.
  bool has_scheme(const ModelState& state, const SmoothMapping& mapping) const;
  // The judge decides where several layers meet in one sublayer; a single one is its own parent.
  bool asks_judge(const SmoothMapping& mapping) const;
  Result<AwqChoice> search(const SmoothMapping& mapping, const SmoothWork& work, SublayerJudge* judge,
                           ThreadPool& pool) const;
  Result<LayerReport> scale(const SmoothMapping& mapping, const SmoothWork& work, SublayerJudge* judge,
                            ThreadPool& pool) const;
  // Narrower weights where that lowers the exact error of rounding (`clip_search`).
  Status clip(ModuleWork& work, std::span<const float> input_scales, ThreadPool& pool) const;

  const ModelDescription* model_ = nullptr;
  std::vector<SmoothMapping> mappings_;
  std::vector<AwqCandidate> candidates_;
  // For grouped queries: weights differ among columns that share a scale, so they take no part.
  std::vector<AwqCandidate> plain_candidates_;
  bool is_strict_ = false;
};

}  // namespace nibble
