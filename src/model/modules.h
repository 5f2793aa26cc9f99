// SPDX-License-Identifier: Apache-2.0
// The module tree of a checkpoint under its Hugging Face names and class names, found from config.json and
// the architecture table without reading weights. Recipes, ignore lists, reports and metadata name modules
// so.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"
#include "checkpoint/checkpoint.h"

namespace nibble {

enum class ModuleKind { kLinear, kEmbedding, kNorm, kAttention, kMlp, kBlock, kOther };

// What a module does in the forward. Mappings of modifiers (AWQ, SmoothQuant, rotations) follow from roles,
// not from names. A plain MLP is kUp, kDown; a fused one kGateUp, kDown.
enum class ModuleRole : std::uint8_t {
  kNone,
  kTokenEmbedding,
  kPositionEmbedding,
  kTypeEmbedding,
  kEmbeddingNorm,
  kEmbeddingProjection,
  kBlock,
  kAttention,
  kMlp,
  kAttentionInputNorm,     // x + attention(norm(x))
  kAttentionOutputNorm,    // x + norm(attention(x))
  kAttentionResidualNorm,  // norm(x + attention(x))
  kQuery,
  kKey,
  kValue,
  kQkv,
  kAttentionOutput,
  kQueryNorm,
  kKeyNorm,
  kMlpInputNorm,
  kMlpOutputNorm,
  kMlpResidualNorm,
  kGate,
  kUp,
  kGateUp,
  kDown,
  kRouter,
  kExpertGate,
  kExpertUp,
  kExpertDown,
  kSharedGate,
  kSharedUp,
  kSharedDown,
  kSharedRouter,
  kFinalNorm,
  kHeadProjection,
  kLmHead,
  kSpanHead,
  kPooler,
  kClassifier,
};

struct ModuleInfo {
  std::string name;        // "model.layers.3.self_attn.q_proj"; "" is the model itself
  std::string disk_name;   // the name that the reference writes in tensors and metadata; nearly always `name`
  std::string class_name;  // "Linear", "LlamaAttention", "LlamaDecoderLayer", "Conv1D"
  ModuleKind kind = ModuleKind::kOther;
  ModuleRole role = ModuleRole::kNone;
  int block = -1;   // decoder / encoder layer; -1 outside
  int expert = -1;  // expert number inside a mixture of experts
  // Inside a block: linears of one stage get the same input (design.md, decision 4): 0 q, k, v; 1 attention
  // output; 2 gate, up and router; 3 down (where each expert has its own input).
  int stage = -1;
  // Linears and embeddings: the weight as the module sees it. Norms: rows = length, cols = 1.
  std::int64_t rows = 0;  // out features (embedding: tokens)
  std::int64_t cols = 0;  // in features
  std::string weight;     // tensor name in the checkpoint; empty when the module owns none (tied head); of a
                          // quantized linear the name its dense weight would have
  std::string bias;       // tensor name; empty without a bias
  bool transposed = false;  // stored [in, out] (GPT-2's Conv1D)
  float norm_offset = 0;    // norms multiply by (norm_offset + weight)
  std::string tied_to;      // name of the module whose weight it shares (lm_head -> model.embed_tokens)
};

struct ModelDescription {
  std::string model_type;       // "llama"
  std::string architecture;     // "LlamaForCausalLM"
  std::string no_split_module;  // "LlamaDecoderLayer": the default sequential target
  int num_blocks = 0;
  bool tied_embeddings = false;  // the head has no weight of its own
  std::int64_t head_dim = 0;     // columns of one attention head
  bool qkv_by_head = false;      // rows of a fused qkv are [head][q, k, v], not [q; k; v]
  // A factor on an output of up passes through to the input of down: gated MLPs, or ReLU.
  bool up_passes_factors = false;
  std::vector<ModuleInfo> modules;  // depth first, in the order of the reference model's named_modules()
  // Tensors that no module uses and that are not known leftovers (rotary tables, causal masks): another head,
  // a vision tower. Writers carry them over untouched.
  std::vector<std::string> unused_tensors;

  const ModuleInfo* find(std::string_view name) const;
};

// Checks that every tensor the architecture needs exists with the right shape; names what is missing or
// wrong.
Result<ModelDescription> describe_model(const Checkpoint& checkpoint);

// The module at a path, walked part by part; the error names the part that failed and the nearest names
// there.
Result<const ModuleInfo*> module_at(const ModelDescription& description, std::string_view path);
// The first module, in module order, whose whole name matches the pattern from its start (Python re.match); a
// leading "re:" is allowed. Null when none does.
Result<const ModuleInfo*> find_module(const ModelDescription& description, std::string_view pattern);
// All linears (a tied head too), in module order.
std::vector<const ModuleInfo*> prunable_layers(const ModelDescription& description);

// Where sequential calibration cuts the model, and which rule said so: the user's list, the hint of the
// architecture row, or (absent or matching nothing) the blocks of the tree.
enum class SequentialTargetRule { kUser, kArchitecture, kDetected };
struct SequentialTargets {
  std::vector<std::string> targets;  // class names, names or patterns
  SequentialTargetRule rule = SequentialTargetRule::kArchitecture;
};
SequentialTargets sequential_targets(const ModelDescription& description,
                                     std::vector<std::string> user_targets);

}  // namespace nibble
