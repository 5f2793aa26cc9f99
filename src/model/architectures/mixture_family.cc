// SPDX-License-Identifier: Apache-2.0
// Mixtures of experts: Mixtral, Qwen2-MoE, Qwen3-MoE. The experts are listed one linear each, as compression
// tools see them, although the reference's forward stacks them into one tensor.
#include "model/architectures/rows.h"

namespace nibble {
namespace {

using enum ModuleRole;

const std::vector<Node> kAttentionNodes = {
    {"model", "@Model"},
    {"model.embed_tokens", "Embedding", kTokenEmbedding},
    {"model.layers", "ModuleList"},
    {"model.layers.*", "@DecoderLayer", kBlock},
    {"model.layers.*.self_attn", "@Attention", kAttention},
    {"model.layers.*.self_attn.q_proj", "Linear", kQuery},
    {"model.layers.*.self_attn.k_proj", "Linear", kKey},
    {"model.layers.*.self_attn.v_proj", "Linear", kValue},
    {"model.layers.*.self_attn.o_proj", "Linear", kAttentionOutput},
};

const std::vector<Node> kTailNodes = {
    {"model.layers.*.input_layernorm", "@RMSNorm", kAttentionInputNorm},
    {"model.layers.*.post_attention_layernorm", "@RMSNorm", kMlpInputNorm},
    {"model.norm", "@RMSNorm", kFinalNorm},
    {"model.rotary_emb", "@RotaryEmbedding"},
    {"lm_head", "Linear", kLmHead, When::kLmHead},
    {"score", "Linear", kClassifier, When::kSequenceHead},
};

std::vector<Node> mixture_tree(const std::vector<Node>& middle) {
  std::vector<Node> tree = kAttentionNodes;
  tree.insert(tree.end(), middle.begin(), middle.end());
  tree.insert(tree.end(), kTailNodes.begin(), kTailNodes.end());
  return tree;
}

Architecture mixtral() {
  Architecture row;
  row.model_type = "mixtral";
  row.class_prefix = "Mixtral";
  row.base_prefix = "model";
  row.no_split_module = "MixtralDecoderLayer";
  row.classes = {{"MixtralForCausalLM", HeadKind::kLm},
                 {"MixtralModel", HeadKind::kNone},
                 {"MixtralForSequenceClassification", HeadKind::kSequence}};
  row.tree = mixture_tree({
      {"model.layers.*.mlp", "MixtralSparseMoeBlock", kMlp},
      {"model.layers.*.mlp.gate", "Linear", kRouter},
      {"model.layers.*.mlp.experts", "ModuleList"},
      {"model.layers.*.mlp.experts.#", "MixtralBlockSparseTop2MLP", kMlp},
      {"model.layers.*.mlp.experts.#.gate_proj", "Linear", kExpertGate},
      {"model.layers.*.mlp.experts.#.up_proj", "Linear", kExpertUp},
      {"model.layers.*.mlp.experts.#.down_proj", "Linear", kExpertDown},
      {"model.layers.*.mlp.experts.#.act_fn", "$"},
  });
  row.disk_renames = {{".mlp.", ".block_sparse_moe."}};
  row.legacy_renames = {{".gate_proj", ".w1"}, {".up_proj", ".w3"}, {".down_proj", ".w2"}};
  row.keys.kv_heads.fallback = 8;
  row.keys.norm_eps.fallback = 1e-5;
  row.keys.rope_theta.fallback = 1e6;
  row.keys.max_positions.fallback = 131072;
  row.keys.experts = {"num_local_experts|num_experts", 8};
  row.keys.experts_per_token = {"num_experts_per_tok", 2};
  row.keys.expert_intermediate = {"intermediate_size"};
  row.window = WindowRule::kAllLayers;
  return row;
}

Architecture qwen2_moe() {
  Architecture row;
  row.model_type = "qwen2_moe";
  row.class_prefix = "Qwen2Moe";
  row.base_prefix = "model";
  row.no_split_module = "Qwen2MoeDecoderLayer";
  row.classes = {{"Qwen2MoeForCausalLM", HeadKind::kLm},
                 {"Qwen2MoeModel", HeadKind::kNone},
                 {"Qwen2MoeForSequenceClassification", HeadKind::kSequence}};
  row.tree = mixture_tree({
      {"model.layers.*.mlp", "Qwen2MoeSparseMoeBlock", kMlp, When::kSparse},
      {"model.layers.*.mlp.gate", "Linear", kRouter, When::kSparse},
      {"model.layers.*.mlp.experts", "ModuleList", kNone, When::kSparse},
      {"model.layers.*.mlp.experts.#", "Qwen2MoeMLP", kMlp, When::kSparse},
      {"model.layers.*.mlp.experts.#.gate_proj", "Linear", kExpertGate, When::kSparse},
      {"model.layers.*.mlp.experts.#.up_proj", "Linear", kExpertUp, When::kSparse},
      {"model.layers.*.mlp.experts.#.down_proj", "Linear", kExpertDown, When::kSparse},
      {"model.layers.*.mlp.experts.#.act_fn", "$", kNone, When::kSparse},
      {"model.layers.*.mlp.shared_expert", "Qwen2MoeMLP", kMlp, When::kSparse},
      {"model.layers.*.mlp.shared_expert.gate_proj", "Linear", kSharedGate, When::kSparse},
      {"model.layers.*.mlp.shared_expert.up_proj", "Linear", kSharedUp, When::kSparse},
      {"model.layers.*.mlp.shared_expert.down_proj", "Linear", kSharedDown, When::kSparse},
      {"model.layers.*.mlp.shared_expert.act_fn", "$", kNone, When::kSparse},
      {"model.layers.*.mlp.shared_expert_gate", "Linear", kSharedRouter, When::kSparse},
      {"model.layers.*.mlp", "@MLP", kMlp, When::kDense},
      {"model.layers.*.mlp.gate_proj", "Linear", kGate, When::kDense},
      {"model.layers.*.mlp.up_proj", "Linear", kUp, When::kDense},
      {"model.layers.*.mlp.down_proj", "Linear", kDown, When::kDense},
      {"model.layers.*.mlp.act_fn", "$", kNone, When::kDense},
  });
  row.keys.max_positions.fallback = 32768;
  row.keys.experts = {"num_experts|num_local_experts", 60};
  row.keys.experts_per_token = {"num_experts_per_tok", 4};
  row.keys.expert_intermediate = {"moe_intermediate_size", 1408};
  row.keys.shared_intermediate = {"shared_expert_intermediate_size", 5632};
  row.keys.sparse_step = {"decoder_sparse_step", 1};
  row.qkv_bias = {"qkv_bias", true};
  row.keys.window.fallback = 4096;
  row.window = WindowRule::kEvenBefore;
  row.routing_norm = RoutingNorm::kFromConfig;
  return row;
}

Architecture qwen3_moe() {
  Architecture row = qwen2_moe();
  row.model_type = "qwen3_moe";
  row.class_prefix = "Qwen3Moe";
  row.no_split_module = "Qwen3MoeDecoderLayer";
  row.classes = {{"Qwen3MoeForCausalLM", HeadKind::kLm},
                 {"Qwen3MoeModel", HeadKind::kNone},
                 {"Qwen3MoeForSequenceClassification", HeadKind::kSequence}};
  row.tree = mixture_tree({
      {"model.layers.*.self_attn.q_norm", "@RMSNorm", kQueryNorm},
      {"model.layers.*.self_attn.k_norm", "@RMSNorm", kKeyNorm},
      {"model.layers.*.mlp", "Qwen3MoeSparseMoeBlock", kMlp, When::kSparse},
      {"model.layers.*.mlp.experts", "ModuleList", kNone, When::kSparse},
      {"model.layers.*.mlp.experts.#", "Qwen3MoeMLP", kMlp, When::kSparse},
      {"model.layers.*.mlp.experts.#.gate_proj", "Linear", kExpertGate, When::kSparse},
      {"model.layers.*.mlp.experts.#.up_proj", "Linear", kExpertUp, When::kSparse},
      {"model.layers.*.mlp.experts.#.down_proj", "Linear", kExpertDown, When::kSparse},
      {"model.layers.*.mlp.experts.#.act_fn", "$", kNone, When::kSparse},
      {"model.layers.*.mlp.gate", "Linear", kRouter, When::kSparse},
      {"model.layers.*.mlp", "@MLP", kMlp, When::kDense},
      {"model.layers.*.mlp.gate_proj", "Linear", kGate, When::kDense},
      {"model.layers.*.mlp.up_proj", "Linear", kUp, When::kDense},
      {"model.layers.*.mlp.down_proj", "Linear", kDown, When::kDense},
      {"model.layers.*.mlp.act_fn", "$", kNone, When::kDense},
  });
  row.keys.kv_heads.fallback = 4;
  row.keys.head_dim.fallback = kHiddenPerHead;
  row.keys.experts.fallback = 128;
  row.keys.experts_per_token.fallback = 8;
  row.keys.expert_intermediate.fallback = 768;
  row.keys.shared_intermediate = {"", 0};
  row.qkv_bias = row.output_bias = {"attention_bias", false};
  row.qk_norm = QkNormKind::kPerHead;
  row.window = WindowRule::kAllIfUsed;
  return row;
}

}  // namespace

void add_mixture_family(std::vector<Architecture>& table) {
  for (auto* row : {mixtral, qwen2_moe, qwen3_moe}) table.push_back(row());
}

}  // namespace nibble
