// SPDX-License-Identifier: Apache-2.0
// Decoders with rotary positions and a gated MLP, in the shape that Llama set: Llama, Mistral, Qwen 2 and 3,
// Gemma 1 to 3, Phi-3, OLMo 2, StableLM; and StarCoder 2, whose MLP is plain.
#include "model/architectures/rows.h"

namespace nibble {
namespace {

using enum ModuleRole;

const std::vector<Node> kLlamaTree = {
    {"model", "@Model"},
    {"model.embed_tokens", "Embedding", kTokenEmbedding},
    {"model.layers", "ModuleList"},
    {"model.layers.*", "@DecoderLayer", kBlock},
    {"model.layers.*.self_attn", "@Attention", kAttention},
    {"model.layers.*.self_attn.q_proj", "Linear", kQuery},
    {"model.layers.*.self_attn.k_proj", "Linear", kKey},
    {"model.layers.*.self_attn.v_proj", "Linear", kValue},
    {"model.layers.*.self_attn.o_proj", "Linear", kAttentionOutput},
    {"model.layers.*.self_attn.q_norm", "@RMSNorm", kQueryNorm, When::kQkNorm},
    {"model.layers.*.self_attn.k_norm", "@RMSNorm", kKeyNorm, When::kQkNorm},
    {"model.layers.*.mlp", "@MLP", kMlp},
    {"model.layers.*.mlp.gate_proj", "Linear", kGate},
    {"model.layers.*.mlp.up_proj", "Linear", kUp},
    {"model.layers.*.mlp.down_proj", "Linear", kDown},
    {"model.layers.*.mlp.act_fn", "$"},
    {"model.layers.*.input_layernorm", "@RMSNorm", kAttentionInputNorm},
    {"model.layers.*.post_attention_layernorm", "@RMSNorm", kMlpInputNorm},
    {"model.norm", "@RMSNorm", kFinalNorm},
    {"model.rotary_emb", "@RotaryEmbedding"},
    {"lm_head", "Linear", kLmHead, When::kLmHead},
    {"score", "Linear", kClassifier, When::kSequenceHead},
};

// The Llama tree with `replaced` nodes put in place of those of the same path, or before `anchor` when new.
std::vector<Node> llama_tree_with(const std::vector<Node>& replaced, std::string_view anchor = {}) {
  std::vector<Node> tree = kLlamaTree;
  for (const Node& node : replaced) {
    auto at = tree.begin();
    while (at != tree.end() && at->path != node.path) ++at;
    if (at != tree.end()) {
      *at = node;
      continue;
    }
    at = tree.begin();
    while (at != tree.end() && at->path != anchor) ++at;
    tree.insert(at, node);
  }
  return tree;
}

std::vector<Node> without(std::vector<Node> tree, std::initializer_list<std::string_view> paths) {
  for (const std::string_view path : paths)
    std::erase_if(tree, [&](const Node& node) { return node.path == path; });
  return tree;
}

std::vector<HeadClass> decoder_classes(std::string_view lm, std::string_view base,
                                       std::string_view sequence) {
  return {{lm, HeadKind::kLm}, {base, HeadKind::kNone}, {sequence, HeadKind::kSequence}};
}

Architecture llama() {
  Architecture row;
  row.model_type = "llama";
  row.class_prefix = "Llama";
  row.base_prefix = "model";
  row.no_split_module = "LlamaDecoderLayer";
  row.classes = decoder_classes("LlamaForCausalLM", "LlamaModel", "LlamaForSequenceClassification");
  row.tree = without(kLlamaTree, {"model.layers.*.self_attn.q_norm", "model.layers.*.self_attn.k_norm"});
  row.qkv_bias = row.output_bias = {"attention_bias", false};
  row.mlp_bias = {"mlp_bias", false};
  return row;
}

Architecture mistral() {
  Architecture row = llama();
  row.model_type = "mistral";
  row.class_prefix = "Mistral";
  row.no_split_module = "MistralDecoderLayer";
  row.classes = decoder_classes("MistralForCausalLM", "MistralModel", "MistralForSequenceClassification");
  row.keys.kv_heads = {"num_key_value_heads", 8};
  row.keys.max_positions.fallback = 131072;
  row.qkv_bias = row.output_bias = row.mlp_bias = {};
  row.keys.window.fallback = 4096;
  row.window = WindowRule::kAllLayers;
  return row;
}

Architecture qwen2() {
  Architecture row = llama();
  row.model_type = "qwen2";
  row.class_prefix = "Qwen2";
  row.no_split_module = "Qwen2DecoderLayer";
  row.classes = decoder_classes("Qwen2ForCausalLM", "Qwen2Model", "Qwen2ForSequenceClassification");
  row.keys.max_positions.fallback = 32768;
  row.qkv_bias = {"", true};
  row.output_bias = row.mlp_bias = {};
  row.keys.window.fallback = 4096;
  row.window = WindowRule::kFromLayer;
  return row;
}

Architecture qwen3() {
  Architecture row = llama();
  row.model_type = "qwen3";
  row.class_prefix = "Qwen3";
  row.no_split_module = "Qwen3DecoderLayer";
  row.classes = decoder_classes("Qwen3ForCausalLM", "Qwen3Model", "Qwen3ForSequenceClassification");
  row.tree = kLlamaTree;
  row.keys.max_positions.fallback = 32768;
  row.keys.head_dim.fallback = 128;
  row.mlp_bias = {};
  row.qk_norm = QkNormKind::kPerHead;
  row.keys.window.fallback = 4096;
  row.window = WindowRule::kFromLayer;
  return row;
}

Architecture gemma() {
  Architecture row = llama();
  row.model_type = "gemma";
  row.class_prefix = "Gemma";
  row.no_split_module = "GemmaDecoderLayer";
  row.classes = decoder_classes("GemmaForCausalLM", "GemmaModel", "GemmaForSequenceClassification");
  row.tree = llama_tree_with({{"model.embed_tokens", "@TextScaledWordEmbedding", kTokenEmbedding}});
  row.tree = without(row.tree, {"model.layers.*.self_attn.q_norm", "model.layers.*.self_attn.k_norm"});
  row.keys.head_dim.fallback = 256;
  row.keys.max_positions.fallback = 8192;
  // hidden_activation came later and corrects a wrong hidden_act of the first release.
  row.keys.activation = "hidden_activation|hidden_act";
  row.keys.activation_fallback = "gelu_pytorch_tanh";
  row.mlp_bias = {};
  row.norm_offset = 1;
  row.norm_rounds_once = true;
  row.scale_embeddings = true;
  row.tie_fallback = true;
  row.bidirectional = {"use_bidirectional_attention", false};
  return row;
}

const std::vector<Node> kSandwichNorms = {
    {"model.layers.*.post_attention_layernorm", "@RMSNorm", kAttentionOutputNorm},
    {"model.layers.*.pre_feedforward_layernorm", "@RMSNorm", kMlpInputNorm},
    {"model.layers.*.post_feedforward_layernorm", "@RMSNorm", kMlpOutputNorm},
    {"model.embed_tokens", "@TextScaledWordEmbedding", kTokenEmbedding},
};

Architecture gemma2() {
  Architecture row = gemma();
  row.model_type = "gemma2";
  row.class_prefix = "Gemma2";
  row.no_split_module = "Gemma2DecoderLayer";
  row.classes = decoder_classes("Gemma2ForCausalLM", "Gemma2Model", "Gemma2ForSequenceClassification");
  row.tree = llama_tree_with(kSandwichNorms, "model.norm");
  row.tree = without(row.tree, {"model.layers.*.self_attn.q_norm", "model.layers.*.self_attn.k_norm"});
  row.keys.activation = "hidden_activation";
  row.keys.query_scalar = {"query_pre_attn_scalar", 256};
  row.keys.attention_softcap = {"attn_logit_softcapping", 50.0, true};
  row.keys.logit_softcap = {"final_logit_softcapping", 30.0, true};
  row.keys.window.fallback = 4096;
  row.window = WindowRule::kAlternate;
  return row;
}

Architecture gemma3_text() {
  Architecture row = gemma2();
  row.model_type = "gemma3_text";
  row.class_prefix = "Gemma3";
  row.no_split_module = "Gemma3DecoderLayer";
  row.classes =
      decoder_classes("Gemma3ForCausalLM", "Gemma3TextModel", "Gemma3TextForSequenceClassification");
  row.tree = llama_tree_with(kSandwichNorms, "model.norm");
  row.tree.front().type = "Gemma3TextModel";
  for (Node& node : row.tree) {
    if (node.role == kTokenEmbedding) node.type = "Gemma3TextScaledWordEmbedding";
  }
  // Published wrapper configs leave out what equals the defaults of the reference's Gemma3TextConfig.
  row.keys.hidden.fallback = 2304;
  row.keys.intermediate.fallback = 9216;
  row.keys.layers.fallback = 26;
  row.keys.heads.fallback = 8;
  row.keys.kv_heads.fallback = 4;
  row.keys.vocab.fallback = 262208;
  row.keys.max_positions.fallback = 131072;
  row.keys.attention_softcap.fallback = 0;
  row.keys.logit_softcap.fallback = 0;
  row.keys.rope_theta.fallback = 1e6;
  row.keys.rope_local_theta = {"rope_local_base_freq", 10000.0};
  row.qk_norm = QkNormKind::kPerHead;
  row.window = WindowRule::kAllButEvery;
  return row;
}

// The text model inside Gemma 3's image-and-text wrapper; the vision tower is carried over untouched.
Architecture gemma3() {
  Architecture row = gemma3_text();
  row.model_type = "gemma3";
  row.base_prefix = "model.language_model";
  row.classes = {{"Gemma3ForConditionalGeneration", HeadKind::kLm}};
  row.text_config = "text_config";
  row.tree = {
      {"model", "Gemma3Model"},
      {"model.language_model", "Gemma3TextModel"},
      {"model.language_model.embed_tokens", "Gemma3TextScaledWordEmbedding", kTokenEmbedding},
      {"model.language_model.layers", "ModuleList"},
      {"model.language_model.layers.*", "@DecoderLayer", kBlock},
      {"model.language_model.layers.*.self_attn", "@Attention", kAttention},
      {"model.language_model.layers.*.self_attn.q_proj", "Linear", kQuery},
      {"model.language_model.layers.*.self_attn.k_proj", "Linear", kKey},
      {"model.language_model.layers.*.self_attn.v_proj", "Linear", kValue},
      {"model.language_model.layers.*.self_attn.o_proj", "Linear", kAttentionOutput},
      {"model.language_model.layers.*.self_attn.q_norm", "@RMSNorm", kQueryNorm, When::kQkNorm},
      {"model.language_model.layers.*.self_attn.k_norm", "@RMSNorm", kKeyNorm, When::kQkNorm},
      {"model.language_model.layers.*.mlp", "@MLP", kMlp},
      {"model.language_model.layers.*.mlp.gate_proj", "Linear", kGate},
      {"model.language_model.layers.*.mlp.up_proj", "Linear", kUp},
      {"model.language_model.layers.*.mlp.down_proj", "Linear", kDown},
      {"model.language_model.layers.*.mlp.act_fn", "$"},
      {"model.language_model.layers.*.input_layernorm", "@RMSNorm", kAttentionInputNorm},
      {"model.language_model.layers.*.post_attention_layernorm", "@RMSNorm", kAttentionOutputNorm},
      {"model.language_model.layers.*.pre_feedforward_layernorm", "@RMSNorm", kMlpInputNorm},
      {"model.language_model.layers.*.post_feedforward_layernorm", "@RMSNorm", kMlpOutputNorm},
      {"model.language_model.norm", "@RMSNorm", kFinalNorm},
      {"model.language_model.rotary_emb", "@RotaryEmbedding"},
      {"lm_head", "Linear", kLmHead, When::kLmHead},
  };
  row.legacy_renames = {{"model.language_model.", "language_model.model."},
                        {"lm_head", "language_model.lm_head"}};
  return row;
}

Architecture phi3() {
  Architecture row = llama();
  row.model_type = "phi3";
  row.class_prefix = "Phi3";
  row.no_split_module = "Phi3DecoderLayer";
  row.classes = decoder_classes("Phi3ForCausalLM", "Phi3Model", "Phi3ForSequenceClassification");
  row.tree = {
      {"model", "@Model"},
      {"model.embed_tokens", "Embedding", kTokenEmbedding},
      {"model.layers", "ModuleList"},
      {"model.layers.*", "@DecoderLayer", kBlock},
      {"model.layers.*.self_attn", "@Attention", kAttention},
      {"model.layers.*.self_attn.o_proj", "Linear", kAttentionOutput},
      {"model.layers.*.self_attn.qkv_proj", "Linear", kQkv},
      {"model.layers.*.mlp", "@MLP", kMlp},
      {"model.layers.*.mlp.gate_up_proj", "Linear", kGateUp},
      {"model.layers.*.mlp.down_proj", "Linear", kDown},
      {"model.layers.*.mlp.activation_fn", "$"},
      {"model.layers.*.input_layernorm", "@RMSNorm", kAttentionInputNorm},
      {"model.layers.*.post_attention_layernorm", "@RMSNorm", kMlpInputNorm},
      {"model.layers.*.resid_attn_dropout", "Dropout"},
      {"model.layers.*.resid_mlp_dropout", "Dropout"},
      {"model.norm", "@RMSNorm", kFinalNorm},
      {"model.rotary_emb", "@RotaryEmbedding"},
      {"lm_head", "Linear", kLmHead, When::kLmHead},
      {"score", "Linear", kClassifier, When::kSequenceHead},
  };
  row.keys.norm_eps.fallback = 1e-5;
  row.keys.max_positions.fallback = 4096;
  row.qkv_bias = row.output_bias = row.mlp_bias = {};
  row.qkv = QkvLayout::kConcatenated;
  row.fused_gate_up = true;
  row.yarn_means_longrope = true;
  row.window = WindowRule::kAllLayers;
  return row;
}

Architecture olmo2() {
  Architecture row = llama();
  row.model_type = "olmo2";
  row.norm_rounds_once = true;
  row.class_prefix = "Olmo2";
  row.no_split_module = "Olmo2DecoderLayer";
  row.classes = decoder_classes("Olmo2ForCausalLM", "Olmo2Model", "Olmo2ForSequenceClassification");
  row.tree = llama_tree_with({{"model.layers.*.post_attention_layernorm", "@RMSNorm", kAttentionOutputNorm},
                              {"model.layers.*.post_feedforward_layernorm", "@RMSNorm", kMlpOutputNorm}},
                             "model.norm");
  row.tree = without(row.tree, {"model.layers.*.input_layernorm"});
  row.keys.norm_eps.fallback = 1e-5;
  row.mlp_bias = {};
  row.qk_norm = QkNormKind::kWhole;
  return row;
}

Architecture starcoder2() {
  Architecture row = llama();
  row.model_type = "starcoder2";
  row.class_prefix = "Starcoder2";
  row.no_split_module = "Starcoder2DecoderLayer";
  row.classes =
      decoder_classes("Starcoder2ForCausalLM", "Starcoder2Model", "Starcoder2ForSequenceClassification");
  row.tree = {
      {"model", "@Model"},
      {"model.embed_tokens", "Embedding", kTokenEmbedding},
      {"model.layers", "ModuleList"},
      {"model.layers.*", "@DecoderLayer", kBlock},
      {"model.layers.*.self_attn", "@Attention", kAttention},
      {"model.layers.*.self_attn.q_proj", "Linear", kQuery},
      {"model.layers.*.self_attn.k_proj", "Linear", kKey},
      {"model.layers.*.self_attn.v_proj", "Linear", kValue},
      {"model.layers.*.self_attn.o_proj", "Linear", kAttentionOutput},
      {"model.layers.*.mlp", "@MLP", kMlp},
      {"model.layers.*.mlp.c_fc", "Linear", kUp},
      {"model.layers.*.mlp.c_proj", "Linear", kDown},
      {"model.layers.*.mlp.act", "$"},
      {"model.layers.*.input_layernorm", "LayerNorm", kAttentionInputNorm},
      {"model.layers.*.post_attention_layernorm", "LayerNorm", kMlpInputNorm},
      {"model.norm", "LayerNorm", kFinalNorm},
      {"model.rotary_emb", "@RotaryEmbedding"},
      {"lm_head", "Linear", kLmHead, When::kLmHead},
      {"score", "Linear", kClassifier, When::kSequenceHead},
  };
  row.keys.kv_heads.fallback = 2;
  row.keys.norm_eps = {"norm_epsilon", 1e-5};
  row.keys.activation_fallback = "gelu_pytorch_tanh";
  row.keys.max_positions.fallback = 4096;
  row.norm = NormKind::kLayer;
  row.norm_bias = true;
  row.qkv_bias = row.output_bias = row.mlp_bias = {"use_bias", true};
  row.glu = false;
  row.window = WindowRule::kAllLayers;
  row.tie_fallback = true;
  return row;
}

Architecture stablelm() {
  Architecture row = llama();
  row.model_type = "stablelm";
  row.class_prefix = "StableLm";
  row.no_split_module = "StableLmDecoderLayer";
  row.classes = decoder_classes("StableLmForCausalLM", "StableLmModel", "StableLmForSequenceClassification");
  row.tree = {
      {"model", "@Model"},
      {"model.embed_tokens", "Embedding", kTokenEmbedding},
      {"model.layers", "ModuleList"},
      {"model.layers.*", "@DecoderLayer", kBlock},
      {"model.layers.*.self_attn", "@Attention", kAttention},
      {"model.layers.*.self_attn.q_proj", "Linear", kQuery},
      {"model.layers.*.self_attn.k_proj", "Linear", kKey},
      {"model.layers.*.self_attn.v_proj", "Linear", kValue},
      {"model.layers.*.self_attn.o_proj", "Linear", kAttentionOutput},
      {"model.layers.*.self_attn.q_layernorm", "StableLmLayerNormPerHead", kNone, When::kQkNorm},
      {"model.layers.*.self_attn.q_layernorm.norms", "ModuleList", kNone, When::kQkNorm},
      {"model.layers.*.self_attn.q_layernorm.norms.%", "LayerNorm", kQueryNorm, When::kQkNorm},
      {"model.layers.*.self_attn.k_layernorm", "StableLmLayerNormPerHead", kNone, When::kQkNorm},
      {"model.layers.*.self_attn.k_layernorm.norms", "ModuleList", kNone, When::kQkNorm},
      {"model.layers.*.self_attn.k_layernorm.norms.%", "LayerNorm", kKeyNorm, When::kQkNorm},
      {"model.layers.*.mlp", "@MLP", kMlp},
      {"model.layers.*.mlp.gate_proj", "Linear", kGate},
      {"model.layers.*.mlp.up_proj", "Linear", kUp},
      {"model.layers.*.mlp.down_proj", "Linear", kDown},
      {"model.layers.*.mlp.act_fn", "$"},
      {"model.layers.*.input_layernorm", "LayerNorm", kAttentionInputNorm},
      {"model.layers.*.post_attention_layernorm", "LayerNorm", kMlpInputNorm, When::kSerial},
      {"model.layers.*.dropout", "Dropout"},
      {"model.norm", "LayerNorm", kFinalNorm},
      {"model.rotary_emb", "@RotaryEmbedding"},
      {"lm_head", "Linear", kLmHead, When::kLmHead},
      {"score", "Linear", kClassifier, When::kSequenceHead},
  };
  row.keys.kv_heads.fallback = 32;
  row.keys.norm_eps = {"layer_norm_eps", 1e-5};
  row.keys.partial_rotary.fallback = 0.25;
  row.keys.max_positions.fallback = 4096;
  row.norm = NormKind::kLayer;
  row.norm_bias = true;
  row.qkv_bias = {"use_qkv_bias", false};
  row.output_bias = row.mlp_bias = {};
  row.qk_norm = QkNormKind::kPerHeadOwn;
  row.use_qk_norm = {"qk_layernorm", false};
  row.parallel_residual = {"use_parallel_residual", false};
  row.mlp_reads_attention_input = true;
  return row;
}

}  // namespace

void add_llama_family(std::vector<Architecture>& table) {
  for (auto* row :
       {llama, mistral, qwen2, qwen3, gemma, gemma2, gemma3_text, gemma3, phi3, olmo2, starcoder2, stablelm})
    table.push_back(row());
}

}  // namespace nibble
