// SPDX-License-Identifier: Apache-2.0
// The hyper-parameters of one model: config.json read through its architecture row, checked, every default
// resolved. Configs of transformers 5 (`rope_parameters`, `dtype`) and of older versions (`rope_theta`,
// `rope_scaling`) give the same result. Every error names the key, the value found and the values allowed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json_fwd.h"
#include "kernels/rows.h"
#include "model/architectures/architecture.h"

namespace nibble {

using kernels::Activation;

// The function of a config name ("gelu_new") and the class the reference uses for it ("NewGELUActivation").
struct ActivationName {
  std::string_view name, class_name;
  Activation kind;
};
Result<ActivationName> find_activation(std::string_view name, std::string_view key);

enum class RopeKind : std::uint8_t { kDefault, kLinear, kDynamic, kLlama3, kYarn, kLongRope };

struct RopeConfig {
  RopeKind kind = RopeKind::kDefault;
  double theta = 10000.0;
  std::int64_t dim = 0;  // rotated columns of a head, even
  double factor = 1;
  double original_max_positions = 0;
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  double beta_fast = 32, beta_slow = 1;              // yarn
  double attention_factor = 1;                       // multiplies cos and sin
  bool truncate = true;                              // yarn
  std::vector<double> long_factor, short_factor;     // longrope
  std::int64_t max_positions = 0;
};

struct ModelConfig {
  const Architecture* row = nullptr;
  std::string class_name;  // "LlamaForCausalLM"
  HeadKind head = HeadKind::kLm;
  bool bare = false;  // the class is the base model itself: module names lack its prefix

  std::int64_t hidden = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, intermediate = 0, vocab = 0;
  std::int64_t max_positions = 0, embedding_dim = 0, type_vocab = 0, labels = 2;
  std::int64_t pad_token = 0;
  double norm_eps = 0;
  std::string activation_name;
  std::string activation_class;
  Activation activation = Activation::kSilu;

  bool qkv_bias = false, output_bias = false, mlp_bias = false, norm_affine = true;
  bool qk_norm = false;
  bool parallel_residual = false, pre_norm = true, final_norm = true;
  bool tie_embeddings = false;
  bool causal = true;
  double embedding_scale = 1;
  double attention_softcap = 0, logit_softcap = 0;  // 0: none
  std::vector<double> attention_scale;              // by layer
  std::vector<std::int64_t> window;                 // by layer: 0 unlimited, else keys j > i - window
  std::vector<std::uint8_t> rope_of_layer;          // index into `ropes`, by layer
  std::vector<RopeConfig> ropes;                    // empty with learned positions

  std::int64_t experts = 0, experts_per_token = 0, expert_intermediate = 0, shared_intermediate = 0;
  bool renormalise_routing = true;
  std::vector<bool> sparse_layer;

  std::int64_t query_width() const { return heads * head_dim; }
  std::int64_t kv_width() const { return kv_heads * head_dim; }
};

Result<ModelConfig> read_model_config(const Json& config);

// The rope section; `head_dim` and `max_positions` of `model` are read already.
Result<std::vector<RopeConfig>> read_rope(const Json& config, const Architecture& row,
                                          const ModelConfig& model);

// Look-ups through '|'-separated alternatives; null when none is present.
const Json* find_key(const Json& config, std::string_view alternatives, std::string_view* found = nullptr);
Result<double> number_at(const Json& config, const NumberKey& key);

}  // namespace nibble
