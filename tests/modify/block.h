// SPDX-License-Identifier: Apache-2.0
// A decoder block for tests of modifiers that move scales between its layers.
#pragma once

#include <deque>

#include "modify/unit.h"

namespace nibble::testing {

inline constexpr std::int64_t kHidden = 32, kMiddle = 48;

struct BlockShape {
  std::int64_t kv_rows = kHidden;
  int experts = 0;
  bool is_parallel = false;
  float norm_offset = 0;
  bool has_bias = false;
};

inline void add_norm(UnitBuilder& builder, const std::string& name, ModuleRole role,
                     const BlockShape& shape) {
  ModuleInfo module;
  module.name = name;
  module.class_name = "LlamaRMSNorm";
  module.kind = ModuleKind::kNorm;
  module.role = role;
  module.rows = kHidden;
  module.cols = 1;
  module.weight = name + ".weight";
  if (shape.has_bias) module.bias = name + ".bias";
  module.norm_offset = shape.norm_offset;
  builder.add(module);
}

inline void add_block(UnitBuilder& builder, const BlockShape& shape, int number = 0) {
  const std::string b = "model.layers." + std::to_string(number) + ".";
  const auto begin = builder.model().modules.size();
  add_norm(builder, b + "input_layernorm", ModuleRole::kAttentionInputNorm, shape);
  builder.linear(b + "self_attn.q_proj", ModuleRole::kQuery, 0, kHidden, kHidden);
  builder.linear(b + "self_attn.k_proj", ModuleRole::kKey, 0, shape.kv_rows, kHidden);
  builder.linear(b + "self_attn.v_proj", ModuleRole::kValue, 0, shape.kv_rows, kHidden, shape.has_bias);
  builder.linear(b + "self_attn.o_proj", ModuleRole::kAttentionOutput, 1, kHidden, kHidden);
  if (!shape.is_parallel) add_norm(builder, b + "post_attention_layernorm", ModuleRole::kMlpInputNorm, shape);
  if (shape.experts > 0) builder.linear(b + "mlp.gate", ModuleRole::kRouter, 2, shape.experts, kHidden);
  for (int e = 0; e < std::max(1, shape.experts); ++e) {
    const std::string m = shape.experts == 0 ? b + "mlp." : b + "mlp.experts." + std::to_string(e) + ".";
    const bool is_expert = shape.experts > 0;
    builder.linear(m + "gate_proj", is_expert ? ModuleRole::kExpertGate : ModuleRole::kGate, 2, kMiddle,
                   kHidden);
    builder.linear(m + "up_proj", is_expert ? ModuleRole::kExpertUp : ModuleRole::kUp, 2, kMiddle, kHidden);
    builder.linear(m + "down_proj", is_expert ? ModuleRole::kExpertDown : ModuleRole::kDown, 3, kHidden,
                   kMiddle);
  }
  for (auto i = begin; i < builder.model().modules.size(); ++i) builder.model().modules[i].block = number;
  builder.model().up_passes_factors = true;
}

// A unit with every module of the builder, random weights, and ranges of outputs.
struct Block {
  Block(UnitBuilder& builder, DType dtype = DType::kF32) {
    std::uint64_t seed = 1;
    for (const ModuleInfo& module : builder.model().modules) {
      Matrix w = weight_like(module.rows, module.cols, ++seed);
      if (module.kind == ModuleKind::kNorm) {
        for (float& v : w.values()) v = 0.5f + 20 * std::fabs(v);
      }
      ModuleStatistics& seen = statistics.emplace_back();
      for (std::int64_t r = 0; r < module.rows; ++r) {
        seen.output_column_min.push_back(-0.5f - 0.1f * static_cast<float>(r % 7));
        seen.output_column_max.push_back(0.1f * static_cast<float>((r * r) % 11));
      }
      unit.modules.push_back(work_of(module, w, &seen, dtype));
      ModuleWork& work = unit.modules.back();
      if (module.kind == ModuleKind::kNorm) work.weight = work.weight.reshaped({module.rows});
      if (!module.bias.empty()) {
        const Matrix bias = random_matrix(1, module.rows, ++seed);
        work.bias = Tensor::from_f32(dtype, {module.rows}, bias.values());
      }
    }
  }
  Matrix weight(const std::string& leaf) {
    for (ModuleWork& work : unit.modules) {
      if (work.module->name.ends_with(leaf)) return matrix_of(work.weight);
    }
    ADD_FAILURE() << leaf;
    return {};
  }
  std::vector<float> bias(const std::string& leaf) {
    for (ModuleWork& work : unit.modules) {
      if (work.module->name.ends_with(leaf)) return work.bias->to_f32();
    }
    return {};
  }

  std::deque<ModuleStatistics> statistics;
  UnitWork unit;
};

// W diag(offset + g): what a linear behind a norm computes.
inline Matrix behind_norm(const Matrix& w, const Matrix& norm, float offset) {
  Matrix result = w;
  for (std::int64_t r = 0; r < w.rows(); ++r) {
    for (std::int64_t c = 0; c < w.cols(); ++c) result.at(r, c) *= offset + norm.at(c, 0);
  }
  return result;
}

inline void expect_near(const Matrix& a, const Matrix& b, double tolerance) {
  ASSERT_EQ(a.rows(), b.rows());
  float largest = 0;
  for (const float v : b.values()) largest = std::max(largest, std::fabs(v));
  for (std::int64_t i = 0; i < a.rows() * a.cols(); ++i) {
    ASSERT_NEAR(a.data()[i], b.data()[i], tolerance * static_cast<double>(largest)) << i;
  }
}

}  // namespace nibble::testing
