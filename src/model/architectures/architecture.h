// SPDX-License-Identifier: Apache-2.0
// One row of the architecture table: everything nibble knows about a model family, as data (design.md,
// decision 1). A row names the Hugging Face model_type and classes, lists the module tree, says how config
// keys map to hyper-parameters, and sets traits. The forward (block.h, transformer.h) reads only ModelConfig
// and the roles of the tree; a new model is a new row and a golden test.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "model/modules.h"

namespace nibble {

// Conditions under which a node of a tree exists.
enum class When : std::uint8_t {
  kAlways,
  kQkNorm,      // q/k norms are switched on
  kSerial,      // no parallel residual
  kPreNorm,     // OPT: do_layer_norm_before
  kPostNorm,    // OPT: not do_layer_norm_before
  kFinalNorm,   // OPT: pre-norm and final norm not removed
  kProjected,   // OPT: word embeddings narrower than the hidden size
  kDense,       // layers without experts
  kSparse,      // layers with experts
  kTokenTypes,  // type_vocab_size > 0
  kLmHead,
  kSpanHead,
  kSequenceHead,
  kPooler,          // sequence head, or a bare encoder whose checkpoint stores a pooler
  kPoolerIfStored,  // bare encoder whose checkpoint stores a pooler
};

// `path` may hold '*' (block number), '#' (expert number) and '%' (head number). In `type`, '@' stands for
// the row's class prefix and '$' for the class of the activation function.
struct Node {
  std::string_view path;
  std::string_view type;
  ModuleRole role = ModuleRole::kNone;
  When when = When::kAlways;
};

// Replaces the first occurrence of `from` in a name.
struct Rename {
  std::string_view from, to;
};

enum class HeadKind : std::uint8_t { kNone, kLm, kSpan, kSequence };
struct HeadClass {
  std::string_view name;  // "BertForQuestionAnswering"
  HeadKind kind;
};

// Config keys. Alternatives are separated by '|'; the first present and not null counts. An empty key gives
// the fallback.
inline constexpr std::int64_t kRequired = -1;
inline constexpr std::int64_t kSameAsHeads = -2;
inline constexpr std::int64_t kSameAsHidden = -3;
inline constexpr std::int64_t kHiddenPerHead = -4;
inline constexpr std::int64_t kFourTimesHidden = -5;
struct IntKey {
  std::string_view key;
  std::int64_t fallback = kRequired;
  bool null_is_off = false;  // present and null gives 0, not the fallback
};
struct NumberKey {
  std::string_view key;
  double fallback = 0;  // 0 means off
  bool null_is_off = false;
};
struct Flag {
  std::string_view key;
  bool fallback = false;
};

struct ConfigKeys {
  IntKey hidden{"hidden_size"};
  IntKey layers{"num_hidden_layers"};
  IntKey heads{"num_attention_heads"};
  IntKey kv_heads{"num_key_value_heads", kSameAsHeads};
  IntKey head_dim{"head_dim", kHiddenPerHead};
  IntKey intermediate{"intermediate_size"};
  IntKey vocab{"vocab_size"};
  IntKey max_positions{"max_position_embeddings", 2048};
  IntKey embedding_dim{"", kSameAsHidden};
  IntKey type_vocab{"", 0};
  IntKey pad_token{"pad_token_id", -100};  // none
  IntKey window{"sliding_window", 0, true};
  NumberKey norm_eps{"rms_norm_eps", 1e-6};
  std::string_view activation = "hidden_act";
  std::string_view activation_fallback = "silu";
  NumberKey rope_theta{"rope_theta", 10000.0};
  NumberKey rope_local_theta{"", 0};  // theta of sliding layers, where they have their own
  NumberKey partial_rotary{"partial_rotary_factor", 1.0};
  NumberKey query_scalar{"", 0};  // attention scale = query_scalar^-1/2 instead of head_dim^-1/2
  NumberKey attention_softcap{"", 0};
  NumberKey logit_softcap{"", 0};
  IntKey experts{"", 0};
  IntKey experts_per_token{"num_experts_per_tok", 0};
  IntKey expert_intermediate{"", 0};
  IntKey shared_intermediate{"", 0};
  IntKey sparse_step{"", 1};
};

enum class NormKind : std::uint8_t { kRms, kLayer };
enum class PositionRule : std::uint8_t {
  kRotary,
  kLearned,          // table row = position
  kLearnedFromMask,  // OPT: running count of attended tokens, + 2
  kLearnedFromIds,   // RoBERTa: running count of ids that are not padding, + padding id
};
enum class QkvLayout : std::uint8_t {
  kSeparate,
  kConcatenated,  // rows [q; k; v]
  kPerHead,       // rows [head][q, k, v]
};
enum class QkNormKind : std::uint8_t {
  kNone,
  kPerHead,     // one weight [head_dim] for all heads
  kPerHeadOwn,  // a weight [head_dim] for each head
  kWhole,       // over all heads at once
};
enum class WindowRule : std::uint8_t {
  kNone,
  kAllLayers,
  kFromLayer,    // Qwen2/3: layers >= max_window_layers, if use_sliding_window
  kEvenBefore,   // Qwen2-MoE: even layers below max_window_layers, if use_sliding_window
  kAllIfUsed,    // Qwen3-MoE: every layer, if use_sliding_window
  kAlternate,    // Gemma 2: even layers
  kAllButEvery,  // Gemma 3: all but every sliding_window_pattern-th
};
enum class RoutingNorm : std::uint8_t { kAlways, kFromConfig };  // renormalise the top-k probabilities

struct Architecture {
  std::string_view model_type;
  std::string_view class_prefix;     // "Llama"
  std::string_view base_prefix;      // path of the base model in a model with a head: "model", "bert"
  std::string_view no_split_module;  // default sequential target
  std::vector<HeadClass> classes;    // the first is assumed when config names none
  std::vector<Node> tree;            // without the root
  std::vector<Rename> disk_renames;  // module name -> name that the reference writes
  std::vector<Rename>
      legacy_renames;            // name on disk -> names of older files (tried together, then one by one)
  std::string_view text_config;  // config object that holds the language model; empty: the document itself
  ConfigKeys keys;

  NormKind norm = NormKind::kRms;
  bool norm_bias = false;
  Flag norm_affine{"", true};
  bool norm_rounds_once = false;  // RMS: x and w are multiplied before the result is rounded
  double norm_offset = 0;         // 1: the norm multiplies by 1 + w
  PositionRule positions = PositionRule::kRotary;
  std::int64_t position_offset = 0;  // rows of the position table before position 0
  bool yarn_means_longrope = false;  // Phi-3
  QkvLayout qkv = QkvLayout::kSeparate;
  Flag qkv_bias, output_bias, mlp_bias;
  bool classifier_bias = false;  // sequence head
  bool glu = true;
  bool fused_gate_up = false;
  bool transposed = false;  // Conv1D: weights are [in, out]
  QkNormKind qk_norm = QkNormKind::kNone;
  Flag use_qk_norm{"", true};
  Flag parallel_residual;
  bool mlp_reads_attention_input = false;  // parallel residual: one norm feeds attention and MLP
  Flag pre_norm{"", true};
  Flag remove_final_norm;
  WindowRule window = WindowRule::kNone;
  bool scale_embeddings = false;  // by sqrt(hidden)
  Flag scale_attention{"", true};
  Flag scale_by_layer;  // GPT-2: attention also divided by layer number
  bool causal = true;
  Flag bidirectional;         // a causal family whose config may switch to bidirectional
  bool tie_fallback = false;  // tie_word_embeddings when the key is absent
  RoutingNorm routing_norm = RoutingNorm::kAlways;
  std::string_view pooler_activation = "tanh";
};

std::span<const Architecture> architectures();
const Architecture* find_architecture(std::string_view model_type);
// The row that has this class ("LlamaForCausalLM").
const Architecture* find_architecture_of_class(std::string_view class_name);

}  // namespace nibble
