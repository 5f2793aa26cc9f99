// SPDX-License-Identifier: Apache-2.0
// Facts from gguf-py 0.19 (constants, tensor_mapping) and llama.cpp's converters as of 2026.
#include "checkpoint/gguf_architectures.h"

#include <algorithm>
#include <array>

namespace nibble {
namespace {

using enum GgufLayout;

constexpr std::uint32_t kLlamas = kGgufLlama | kGgufMixtral;
constexpr std::uint32_t kQwens = kGgufQwen2 | kGgufQwen3 | kGgufQwen2Moe | kGgufQwen3Moe;
constexpr std::uint32_t kQwenMoes = kGgufQwen2Moe | kGgufQwen3Moe;
constexpr std::uint32_t kGemmas23 = kGgufGemma2 | kGgufGemma3;
constexpr std::uint32_t kGemmas = kGgufGemma | kGemmas23;
// Names as in Llama: model.layers.N.self_attn ...
constexpr std::uint32_t kLayers =
    kLlamas | kQwens | kGemmas | kGgufPhi3 | kGgufOlmo2 | kGgufStarcoder2 | kGgufStableLm;
constexpr std::uint32_t kPlainLayers = kLayers & ~kLlamas;
constexpr std::uint32_t kNormLayers = kLayers & ~kGemmas & ~std::uint32_t{kGgufOlmo2};
constexpr std::uint32_t kMoes = kGgufMixtral | kQwenMoes;
constexpr std::uint32_t kDenseMlps = kLayers & ~std::uint32_t{kGgufMixtral};
constexpr std::uint32_t kAll = ~0u;

constexpr std::array kArchitectures{
    GgufArchitecture{kGgufMixtral, "llama", "mixtral", "MixtralForCausalLM"},
    GgufArchitecture{kGgufLlama, "llama", "llama", "LlamaForCausalLM"},
    GgufArchitecture{kGgufQwen2, "qwen2", "qwen2", "Qwen2ForCausalLM"},
    GgufArchitecture{kGgufQwen3, "qwen3", "qwen3", "Qwen3ForCausalLM"},
    GgufArchitecture{kGgufQwen2Moe, "qwen2moe", "qwen2_moe", "Qwen2MoeForCausalLM"},
    GgufArchitecture{kGgufQwen3Moe, "qwen3moe", "qwen3_moe", "Qwen3MoeForCausalLM"},
    GgufArchitecture{kGgufGemma, "gemma", "gemma", "GemmaForCausalLM"},
    GgufArchitecture{kGgufGemma2, "gemma2", "gemma2", "Gemma2ForCausalLM"},
    GgufArchitecture{kGgufGemma3, "gemma3", "gemma3_text", "Gemma3ForCausalLM"},
    GgufArchitecture{kGgufPhi3, "phi3", "phi3", "Phi3ForCausalLM"},
    GgufArchitecture{kGgufOlmo2, "olmo2", "olmo2", "Olmo2ForCausalLM"},
    GgufArchitecture{kGgufStarcoder2, "starcoder2", "starcoder2", "Starcoder2ForCausalLM"},
    GgufArchitecture{kGgufStableLm, "stablelm", "stablelm", "StableLmForCausalLM"},
    GgufArchitecture{kGgufGpt2, "gpt2", "gpt2", "GPT2LMHeadModel"},
    GgufArchitecture{kGgufGptNeox, "gptneox", "gpt_neox", "GPTNeoXForCausalLM"},
    GgufArchitecture{kGgufBert, "bert", "bert", "BertModel"},
};

// The templates name modules; ".weight" and ".bias" are carried over.
constexpr std::array kNames{
    GgufNameRow{kLayers, "token_embd", "model.embed_tokens"},
    GgufNameRow{kLayers & ~kGemmas, "output_norm", "model.norm"},
    GgufNameRow{kGemmas, "output_norm", "model.norm", kNormPlusOne},
    GgufNameRow{kLayers | kGgufGpt2, "output", "lm_head"},
    GgufNameRow{kNormLayers, "blk.%.attn_norm", "model.layers.%.input_layernorm"},
    GgufNameRow{kGemmas, "blk.%.attn_norm", "model.layers.%.input_layernorm", kNormPlusOne},
    GgufNameRow{kLlamas, "blk.%.attn_q", "model.layers.%.self_attn.q_proj", kRotaryQuery},
    GgufNameRow{kLlamas, "blk.%.attn_k", "model.layers.%.self_attn.k_proj", kRotaryKey},
    GgufNameRow{kPlainLayers, "blk.%.attn_q", "model.layers.%.self_attn.q_proj"},
    GgufNameRow{kPlainLayers, "blk.%.attn_k", "model.layers.%.self_attn.k_proj"},
    GgufNameRow{kLayers, "blk.%.attn_v", "model.layers.%.self_attn.v_proj"},
    GgufNameRow{kGgufPhi3, "blk.%.attn_qkv", "model.layers.%.self_attn.qkv_proj"},
    GgufNameRow{kLayers, "blk.%.attn_output", "model.layers.%.self_attn.o_proj"},
    GgufNameRow{kGgufQwen3 | kGgufQwen3Moe | kGgufOlmo2, "blk.%.attn_q_norm",
                "model.layers.%.self_attn.q_norm"},
    GgufNameRow{kGgufQwen3 | kGgufQwen3Moe | kGgufOlmo2, "blk.%.attn_k_norm",
                "model.layers.%.self_attn.k_norm"},
    GgufNameRow{kGgufGemma3, "blk.%.attn_q_norm", "model.layers.%.self_attn.q_norm", kNormPlusOne},
    GgufNameRow{kGgufGemma3, "blk.%.attn_k_norm", "model.layers.%.self_attn.k_norm", kNormPlusOne},
    GgufNameRow{kGgufStableLm, "blk.%.attn_q_norm", "model.layers.%.self_attn.q_layernorm.norms.%",
                kHeadVectors},
    GgufNameRow{kGgufStableLm, "blk.%.attn_k_norm", "model.layers.%.self_attn.k_layernorm.norms.%",
                kHeadVectors},
    GgufNameRow{kNormLayers, "blk.%.ffn_norm", "model.layers.%.post_attention_layernorm"},
    GgufNameRow{kGgufGemma, "blk.%.ffn_norm", "model.layers.%.post_attention_layernorm", kNormPlusOne},
    GgufNameRow{kGemmas23, "blk.%.ffn_norm", "model.layers.%.pre_feedforward_layernorm", kNormPlusOne},
    GgufNameRow{kGemmas23, "blk.%.post_attention_norm", "model.layers.%.post_attention_layernorm",
                kNormPlusOne},
    GgufNameRow{kGemmas23, "blk.%.post_ffw_norm", "model.layers.%.post_feedforward_layernorm", kNormPlusOne},
    GgufNameRow{kGgufOlmo2, "blk.%.post_attention_norm", "model.layers.%.post_attention_layernorm"},
    GgufNameRow{kGgufOlmo2, "blk.%.post_ffw_norm", "model.layers.%.post_feedforward_layernorm"},
    GgufNameRow{kDenseMlps, "blk.%.ffn_gate", "model.layers.%.mlp.gate_proj"},
    GgufNameRow{kDenseMlps & ~(kGgufPhi3 | kGgufStarcoder2), "blk.%.ffn_up", "model.layers.%.mlp.up_proj"},
    GgufNameRow{kDenseMlps & ~std::uint32_t{kGgufStarcoder2}, "blk.%.ffn_down",
                "model.layers.%.mlp.down_proj"},
    GgufNameRow{kGgufPhi3, "blk.%.ffn_up", "model.layers.%.mlp.gate_up_proj"},
    GgufNameRow{kGgufStarcoder2, "blk.%.ffn_up", "model.layers.%.mlp.c_fc"},
    GgufNameRow{kGgufStarcoder2, "blk.%.ffn_down", "model.layers.%.mlp.c_proj"},
    // Experts
    GgufNameRow{kGgufMixtral, "blk.%.ffn_gate_inp", "model.layers.%.block_sparse_moe.gate"},
    GgufNameRow{kGgufMixtral, "blk.%.ffn_gate",
                "model.layers.%.block_sparse_moe.gate"},  // some converters of 2025
    GgufNameRow{kGgufMixtral, "blk.%.ffn_gate_exps", "model.layers.%.block_sparse_moe.experts.%.w1",
                kExperts},
    GgufNameRow{kGgufMixtral, "blk.%.ffn_up_exps", "model.layers.%.block_sparse_moe.experts.%.w3", kExperts},
    GgufNameRow{kGgufMixtral, "blk.%.ffn_down_exps", "model.layers.%.block_sparse_moe.experts.%.w2",
                kExperts},
    GgufNameRow{kGgufMixtral, "blk.%.ffn_gate_up_exps", "model.layers.%.block_sparse_moe.experts.%.w1",
                kExpertsFirst},
    GgufNameRow{kGgufMixtral, "blk.%.ffn_gate_up_exps", "model.layers.%.block_sparse_moe.experts.%.w3",
                kExpertsSecond},
    GgufNameRow{kGgufMixtral, "blk.%.ffn_gate.%",
                "model.layers.%.block_sparse_moe.experts.%.w1"},  // before 2024-04
    GgufNameRow{kGgufMixtral, "blk.%.ffn_up.%", "model.layers.%.block_sparse_moe.experts.%.w3"},
    GgufNameRow{kGgufMixtral, "blk.%.ffn_down.%", "model.layers.%.block_sparse_moe.experts.%.w2"},
    GgufNameRow{kQwenMoes, "blk.%.ffn_gate_inp", "model.layers.%.mlp.gate"},
    GgufNameRow{kQwenMoes, "blk.%.ffn_gate_exps", "model.layers.%.mlp.experts.%.gate_proj", kExperts},
    GgufNameRow{kQwenMoes, "blk.%.ffn_up_exps", "model.layers.%.mlp.experts.%.up_proj", kExperts},
    GgufNameRow{kQwenMoes, "blk.%.ffn_down_exps", "model.layers.%.mlp.experts.%.down_proj", kExperts},
    GgufNameRow{kQwenMoes, "blk.%.ffn_gate_up_exps", "model.layers.%.mlp.experts.%.gate_proj", kExpertsFirst},
    GgufNameRow{kQwenMoes, "blk.%.ffn_gate_up_exps", "model.layers.%.mlp.experts.%.up_proj", kExpertsSecond},
    GgufNameRow{kGgufQwen2Moe, "blk.%.ffn_gate_inp_shexp", "model.layers.%.mlp.shared_expert_gate", kRow},
    GgufNameRow{kGgufQwen2Moe, "blk.%.ffn_gate_shexp", "model.layers.%.mlp.shared_expert.gate_proj"},
    GgufNameRow{kGgufQwen2Moe, "blk.%.ffn_up_shexp", "model.layers.%.mlp.shared_expert.up_proj"},
    GgufNameRow{kGgufQwen2Moe, "blk.%.ffn_down_shexp", "model.layers.%.mlp.shared_expert.down_proj"},
    // GPT-2
    GgufNameRow{kGgufGpt2, "token_embd", "transformer.wte"},
    GgufNameRow{kGgufGpt2, "position_embd", "transformer.wpe"},
    GgufNameRow{kGgufGpt2, "output_norm", "transformer.ln_f"},
    GgufNameRow{kGgufGpt2, "blk.%.attn_norm", "transformer.h.%.ln_1"},
    GgufNameRow{kGgufGpt2, "blk.%.attn_qkv", "transformer.h.%.attn.c_attn", kTransposed},
    GgufNameRow{kGgufGpt2, "blk.%.attn_output", "transformer.h.%.attn.c_proj", kTransposed},
    GgufNameRow{kGgufGpt2, "blk.%.ffn_norm", "transformer.h.%.ln_2"},
    GgufNameRow{kGgufGpt2, "blk.%.ffn_up", "transformer.h.%.mlp.c_fc", kTransposed},
    GgufNameRow{kGgufGpt2, "blk.%.ffn_down", "transformer.h.%.mlp.c_proj", kTransposed},
    // GPT-NeoX
    GgufNameRow{kGgufGptNeox, "token_embd", "gpt_neox.embed_in"},
    GgufNameRow{kGgufGptNeox, "output_norm", "gpt_neox.final_layer_norm"},
    GgufNameRow{kGgufGptNeox, "output", "embed_out"},
    GgufNameRow{kGgufGptNeox, "blk.%.attn_norm", "gpt_neox.layers.%.input_layernorm"},
    GgufNameRow{kGgufGptNeox, "blk.%.attn_qkv", "gpt_neox.layers.%.attention.query_key_value", kNeoxQkv},
    GgufNameRow{kGgufGptNeox, "blk.%.attn_output", "gpt_neox.layers.%.attention.dense"},
    GgufNameRow{kGgufGptNeox, "blk.%.ffn_norm", "gpt_neox.layers.%.post_attention_layernorm"},
    GgufNameRow{kGgufGptNeox, "blk.%.ffn_up", "gpt_neox.layers.%.mlp.dense_h_to_4h"},
    GgufNameRow{kGgufGptNeox, "blk.%.ffn_down", "gpt_neox.layers.%.mlp.dense_4h_to_h"},
    // BERT
    GgufNameRow{kGgufBert, "token_embd", "embeddings.word_embeddings"},
    GgufNameRow{kGgufBert, "token_types", "embeddings.token_type_embeddings"},
    GgufNameRow{kGgufBert, "position_embd", "embeddings.position_embeddings"},
    GgufNameRow{kGgufBert, "token_embd_norm", "embeddings.LayerNorm"},
    GgufNameRow{kGgufBert, "blk.%.attn_q", "encoder.layer.%.attention.self.query"},
    GgufNameRow{kGgufBert, "blk.%.attn_k", "encoder.layer.%.attention.self.key"},
    GgufNameRow{kGgufBert, "blk.%.attn_v", "encoder.layer.%.attention.self.value"},
    GgufNameRow{kGgufBert, "blk.%.attn_output", "encoder.layer.%.attention.output.dense"},
    GgufNameRow{kGgufBert, "blk.%.attn_output_norm", "encoder.layer.%.attention.output.LayerNorm"},
    GgufNameRow{kGgufBert, "blk.%.ffn_up", "encoder.layer.%.intermediate.dense"},
    GgufNameRow{kGgufBert, "blk.%.ffn_down", "encoder.layer.%.output.dense"},
    GgufNameRow{kGgufBert, "blk.%.layer_output_norm", "encoder.layer.%.output.LayerNorm"},
    GgufNameRow{kGgufBert, "cls", "pooler.dense"},
};

constexpr auto kNumber = GgufKeyRow::Kind::kNumber;
constexpr std::uint32_t kNotGpt2 = ~std::uint32_t{kGgufGpt2};
constexpr std::uint32_t kRmsNorms = kLlamas | kQwens | kGemmas | kGgufPhi3 | kGgufOlmo2;

constexpr std::array kKeys{
    GgufKeyRow{kNotGpt2, "context_length", "max_position_embeddings"},
    GgufKeyRow{kNotGpt2, "embedding_length", "hidden_size"},
    GgufKeyRow{kNotGpt2, "block_count", "num_hidden_layers"},
    GgufKeyRow{kNotGpt2, "attention.head_count", "num_attention_heads"},
    GgufKeyRow{kNotGpt2, "feed_forward_length", "intermediate_size"},
    GgufKeyRow{kGgufGpt2, "context_length", "n_positions"},
    GgufKeyRow{kGgufGpt2, "embedding_length", "n_embd"},
    GgufKeyRow{kGgufGpt2, "block_count", "n_layer"},
    GgufKeyRow{kGgufGpt2, "attention.head_count", "n_head"},
    GgufKeyRow{kGgufGpt2, "feed_forward_length", "n_inner"},
    GgufKeyRow{kLayers, "attention.head_count_kv", "num_key_value_heads"},
    GgufKeyRow{kLayers, "attention.key_length", "head_dim"},
    GgufKeyRow{kLayers, "rope.freq_base", "rope_theta", kNumber},
    GgufKeyRow{kGgufGptNeox, "rope.freq_base", "rotary_emb_base", kNumber},
    GgufKeyRow{kRmsNorms, "attention.layer_norm_rms_epsilon", "rms_norm_eps", kNumber},
    GgufKeyRow{kGgufGpt2, "attention.layer_norm_epsilon", "layer_norm_epsilon", kNumber},
    GgufKeyRow{kGgufStarcoder2, "attention.layer_norm_epsilon", "norm_epsilon", kNumber},
    GgufKeyRow{kGgufStableLm | kGgufGptNeox | kGgufBert, "attention.layer_norm_epsilon", "layer_norm_eps",
               kNumber},
    GgufKeyRow{kGemmas23 | kGgufPhi3, "attention.sliding_window", "sliding_window"},
    GgufKeyRow{kGgufGemma2, "attn_logit_softcapping", "attn_logit_softcapping", kNumber},
    GgufKeyRow{kGemmas23, "final_logit_softcapping", "final_logit_softcapping", kNumber},
    GgufKeyRow{kGgufMixtral, "expert_count", "num_local_experts"},
    GgufKeyRow{kQwenMoes, "expert_count", "num_experts"},
    GgufKeyRow{kMoes, "expert_used_count", "num_experts_per_tok"},
    GgufKeyRow{kQwenMoes, "expert_feed_forward_length", "moe_intermediate_size"},
    GgufKeyRow{kGgufQwen2Moe, "expert_shared_feed_forward_length", "shared_expert_intermediate_size"},
};

constexpr std::array kConstants{
    GgufConstantRow{kLlamas | kQwens | kGgufPhi3 | kGgufOlmo2 | kGgufStableLm, "hidden_act", "\"silu\""},
    GgufConstantRow{kGemmas, "hidden_act", "\"gelu_pytorch_tanh\""},
    GgufConstantRow{kGemmas, "hidden_activation", "\"gelu_pytorch_tanh\""},
    GgufConstantRow{kGgufStarcoder2, "hidden_act", "\"gelu_pytorch_tanh\""},
    GgufConstantRow{kGgufStarcoder2, "use_bias", "true"},
    GgufConstantRow{kGgufGptNeox | kGgufBert, "hidden_act", "\"gelu\""},
    GgufConstantRow{kGgufGptNeox, "attention_bias", "true"},
    GgufConstantRow{kGgufGpt2, "activation_function", "\"gelu_new\""},
    GgufConstantRow{kGgufBert, "position_embedding_type", "\"absolute\""},
    GgufConstantRow{kGgufOlmo2 | kGemmas | kGgufQwen3 | kGgufQwen3Moe, "attention_bias", "false"},
    // llama.cpp's graphs: the weights of the chosen experts add up to one in Qwen3 and Mixtral, not in Qwen2.
    GgufConstantRow{kGgufQwen3Moe, "norm_topk_prob", "true"},
    GgufConstantRow{kGgufQwen2Moe, "norm_topk_prob", "false"},
    GgufConstantRow{kQwenMoes, "decoder_sparse_step", "1"},
    GgufConstantRow{kGgufGemma3, "rope_local_base_freq", "10000.0"},
    GgufConstantRow{kAll, "use_cache", "true"},
};

bool is_number(std::string_view part) {
  return !part.empty() && part.size() <= 9 &&
         std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

const GgufArchitecture* find_gguf_architecture(std::string_view name, bool has_experts) {
  for (const GgufArchitecture& row : kArchitectures) {
    if (row.name == name && (row.family != kGgufMixtral || has_experts)) return &row;
  }
  return nullptr;
}

std::span<const GgufNameRow> gguf_name_rows() {
  return kNames;
}
std::span<const GgufKeyRow> gguf_key_rows() {
  return kKeys;
}
std::span<const GgufConstantRow> gguf_constant_rows() {
  return kConstants;
}

GgufNameParts split_gguf_name(std::string_view name) {
  GgufNameParts parts;
  for (const std::string_view suffix : {".weight", ".bias", ".input_scale", ".scale"}) {
    if (!name.ends_with(suffix)) continue;
    parts.suffix = suffix;
    name.remove_suffix(suffix.size());
    break;
  }
  while (!name.empty()) {
    const auto dot = name.find('.');
    const std::string_view part = name.substr(0, dot);
    if (is_number(part)) {
      parts.numbers.push_back(std::stoll(std::string(part)));
      parts.stem += '%';
    } else {
      parts.stem += part;
    }
    if (dot == std::string_view::npos) break;
    parts.stem += '.';
    name.remove_prefix(dot + 1);
  }
  return parts;
}

std::string fill_template(std::string_view pattern, std::span<const std::int64_t> numbers) {
  std::string text;
  for (const char c : pattern) {
    if (c == '%' && !numbers.empty()) {
      text += std::to_string(numbers.front());
      numbers = numbers.subspan(1);
    } else {
      text += c;
    }
  }
  return text;
}

}  // namespace nibble
