// SPDX-License-Identifier: Apache-2.0
// Decoders with LayerNorm and a plain MLP: GPT-2 (learned positions, Conv1D weights), GPT-NeoX (rotary,
// parallel residual, qkv interleaved by head), OPT (learned positions with offset, pre- or post-norm,
// projected embeddings).
#include "model/architectures/rows.h"

namespace nibble {
namespace {

using enum ModuleRole;

Architecture gpt2() {
  Architecture row;
  row.model_type = "gpt2";
  row.class_prefix = "GPT2";
  row.base_prefix = "transformer";
  row.no_split_module = "GPT2Block";
  row.classes = {{"GPT2LMHeadModel", HeadKind::kLm},
                 {"GPT2Model", HeadKind::kNone},
                 {"GPT2ForSequenceClassification", HeadKind::kSequence}};
  row.tree = {
      {"transformer", "@Model"},
      {"transformer.wte", "Embedding", kTokenEmbedding},
      {"transformer.wpe", "Embedding", kPositionEmbedding},
      {"transformer.drop", "Dropout"},
      {"transformer.h", "ModuleList"},
      {"transformer.h.*", "@Block", kBlock},
      {"transformer.h.*.ln_1", "LayerNorm", kAttentionInputNorm},
      {"transformer.h.*.attn", "@Attention", kAttention},
      {"transformer.h.*.attn.c_attn", "Conv1D", kQkv},
      {"transformer.h.*.attn.c_proj", "Conv1D", kAttentionOutput},
      {"transformer.h.*.attn.attn_dropout", "Dropout"},
      {"transformer.h.*.attn.resid_dropout", "Dropout"},
      {"transformer.h.*.ln_2", "LayerNorm", kMlpInputNorm},
      {"transformer.h.*.mlp", "@MLP", kMlp},
      {"transformer.h.*.mlp.c_fc", "Conv1D", kUp},
      {"transformer.h.*.mlp.c_proj", "Conv1D", kDown},
      {"transformer.h.*.mlp.act", "$"},
      {"transformer.h.*.mlp.dropout", "Dropout"},
      {"transformer.ln_f", "LayerNorm", kFinalNorm},
      {"lm_head", "Linear", kLmHead, When::kLmHead},
      {"score", "Linear", kClassifier, When::kSequenceHead},
  };
  row.keys.hidden = {"n_embd|hidden_size"};
  row.keys.layers = {"n_layer|num_hidden_layers"};
  row.keys.heads = {"n_head|num_attention_heads"};
  row.keys.kv_heads = {"", kSameAsHeads};
  row.keys.head_dim = {"", kHiddenPerHead};
  row.keys.intermediate = {"n_inner", kFourTimesHidden};
  row.keys.max_positions = {"n_positions|max_position_embeddings|n_ctx", 1024};
  row.keys.norm_eps = {"layer_norm_epsilon", 1e-5};
  row.keys.activation = "activation_function";
  row.keys.activation_fallback = "gelu_new";
  row.norm = NormKind::kLayer;
  row.norm_bias = true;
  row.positions = PositionRule::kLearned;
  row.qkv = QkvLayout::kConcatenated;
  row.qkv_bias = row.output_bias = row.mlp_bias = {"", true};
  row.glu = false;
  row.transposed = true;
  row.scale_attention = {"scale_attn_weights", true};
  row.scale_by_layer = {"scale_attn_by_inverse_layer_idx", false};
  row.tie_fallback = true;
  return row;
}

Architecture gpt_neox() {
  Architecture row;
  row.model_type = "gpt_neox";
  row.class_prefix = "GPTNeoX";
  row.base_prefix = "gpt_neox";
  row.no_split_module = "GPTNeoXLayer";
  row.classes = {{"GPTNeoXForCausalLM", HeadKind::kLm},
                 {"GPTNeoXModel", HeadKind::kNone},
                 {"GPTNeoXForSequenceClassification", HeadKind::kSequence}};
  row.tree = {
      {"gpt_neox", "@Model"},
      {"gpt_neox.embed_in", "Embedding", kTokenEmbedding},
      {"gpt_neox.emb_dropout", "Dropout"},
      {"gpt_neox.layers", "ModuleList"},
      {"gpt_neox.layers.*", "@Layer", kBlock},
      {"gpt_neox.layers.*.input_layernorm", "LayerNorm", kAttentionInputNorm},
      {"gpt_neox.layers.*.post_attention_layernorm", "LayerNorm", kMlpInputNorm},
      {"gpt_neox.layers.*.post_attention_dropout", "Dropout"},
      {"gpt_neox.layers.*.post_mlp_dropout", "Dropout"},
      {"gpt_neox.layers.*.attention", "@Attention", kAttention},
      {"gpt_neox.layers.*.attention.query_key_value", "Linear", kQkv},
      {"gpt_neox.layers.*.attention.dense", "Linear", kAttentionOutput},
      {"gpt_neox.layers.*.mlp", "@MLP", kMlp},
      {"gpt_neox.layers.*.mlp.dense_h_to_4h", "Linear", kUp},
      {"gpt_neox.layers.*.mlp.dense_4h_to_h", "Linear", kDown},
      {"gpt_neox.layers.*.mlp.act", "$"},
      {"gpt_neox.final_layer_norm", "LayerNorm", kFinalNorm},
      {"gpt_neox.rotary_emb", "@RotaryEmbedding"},
      {"lm_head", "Linear", kLmHead, When::kLmHead},
      {"score", "Linear", kClassifier, When::kSequenceHead},
  };
  row.disk_renames = {{"lm_head", "embed_out"}};
  row.keys.kv_heads = {"", kSameAsHeads};
  row.keys.head_dim = {"", kHiddenPerHead};
  row.keys.norm_eps = {"layer_norm_eps", 1e-5};
  row.keys.activation_fallback = "gelu";
  row.keys.rope_theta = {"rotary_emb_base|rope_theta", 10000.0};
  row.keys.partial_rotary = {"rotary_pct|partial_rotary_factor", 0.25};
  row.norm = NormKind::kLayer;
  row.norm_bias = true;
  row.qkv = QkvLayout::kPerHead;
  row.qkv_bias = row.output_bias = {"attention_bias", true};
  row.mlp_bias = {"", true};
  row.glu = false;
  row.parallel_residual = {"use_parallel_residual", true};
  return row;
}

Architecture opt() {
  Architecture row;
  row.model_type = "opt";
  row.class_prefix = "OPT";
  row.base_prefix = "model";
  row.no_split_module = "OPTDecoderLayer";
  row.classes = {{"OPTForCausalLM", HeadKind::kLm},
                 {"OPTModel", HeadKind::kNone},
                 {"OPTForSequenceClassification", HeadKind::kSequence}};
  row.tree = {
      {"model", "@Model"},
      {"model.decoder", "@Decoder"},
      {"model.decoder.embed_tokens", "Embedding", kTokenEmbedding},
      {"model.decoder.embed_positions", "OPTLearnedPositionalEmbedding", kPositionEmbedding},
      {"model.decoder.project_out", "Linear", kHeadProjection, When::kProjected},
      {"model.decoder.project_in", "Linear", kEmbeddingProjection, When::kProjected},
      {"model.decoder.final_layer_norm", "LayerNorm", kFinalNorm, When::kFinalNorm},
      {"model.decoder.layers", "ModuleList"},
      {"model.decoder.layers.*", "@DecoderLayer", kBlock},
      {"model.decoder.layers.*.self_attn", "@Attention", kAttention},
      {"model.decoder.layers.*.self_attn.k_proj", "Linear", kKey},
      {"model.decoder.layers.*.self_attn.v_proj", "Linear", kValue},
      {"model.decoder.layers.*.self_attn.q_proj", "Linear", kQuery},
      {"model.decoder.layers.*.self_attn.out_proj", "Linear", kAttentionOutput},
      {"model.decoder.layers.*.activation_fn", "$"},
      {"model.decoder.layers.*.self_attn_layer_norm", "LayerNorm", kAttentionInputNorm, When::kPreNorm},
      {"model.decoder.layers.*.self_attn_layer_norm", "LayerNorm", kAttentionResidualNorm, When::kPostNorm},
      {"model.decoder.layers.*.fc1", "Linear", kUp},
      {"model.decoder.layers.*.fc2", "Linear", kDown},
      {"model.decoder.layers.*.final_layer_norm", "LayerNorm", kMlpInputNorm, When::kPreNorm},
      {"model.decoder.layers.*.final_layer_norm", "LayerNorm", kMlpResidualNorm, When::kPostNorm},
      {"lm_head", "Linear", kLmHead, When::kLmHead},
      {"score", "Linear", kClassifier, When::kSequenceHead},
  };
  row.keys.kv_heads = {"", kSameAsHeads};
  row.keys.head_dim = {"", kHiddenPerHead};
  row.keys.intermediate = {"ffn_dim"};
  row.keys.embedding_dim = {"word_embed_proj_dim", kSameAsHidden};
  row.keys.pad_token = {"pad_token_id", 1};
  row.keys.norm_eps = {"", 1e-5};
  row.keys.activation = "activation_function";
  row.keys.activation_fallback = "relu";
  row.norm = NormKind::kLayer;
  row.norm_bias = true;
  row.norm_affine = {"layer_norm_elementwise_affine", true};
  row.positions = PositionRule::kLearnedFromMask;
  row.position_offset = 2;
  row.qkv_bias = row.output_bias = row.mlp_bias = {"enable_bias", true};
  row.glu = false;
  row.pre_norm = {"do_layer_norm_before", true};
  row.remove_final_norm = {"_remove_final_layer_norm", false};
  row.tie_fallback = true;
  return row;
}

}  // namespace

void add_gpt_family(std::vector<Architecture>& table) {
  for (auto* row : {gpt2, gpt_neox, opt}) table.push_back(row());
}

}  // namespace nibble
