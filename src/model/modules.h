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

struct ModuleInfo {
  std::string name;        // "model.layers.3.self_attn.q_proj"; "" is the model itself
  std::string class_name;  // "Linear", "LlamaAttention", "LlamaDecoderLayer", "Conv1D"
  ModuleKind kind = ModuleKind::kOther;
  int block = -1;  // decoder / encoder layer; -1 outside
  int stage = -1;  // inside a block: linears with the same stage share their input (design.md, decision 4)
  // Linears and embeddings: the weight as the module sees it.
  std::int64_t rows = 0;    // out features (embedding: tokens)
  std::int64_t cols = 0;    // in features
  std::string weight;       // tensor name in the checkpoint; empty when the module owns none (tied head)
  std::string bias;         // tensor name; empty without a bias
  bool transposed = false;  // stored [in, out] (GPT-2's Conv1D)
  std::string tied_to;      // name of the module whose weight it shares (lm_head -> model.embed_tokens)
};

struct ModelDescription {
  std::string model_type;       // "llama"
  std::string architecture;     // "LlamaForCausalLM"
  std::string no_split_module;  // "LlamaDecoderLayer": the default sequential target
  int num_blocks = 0;
  std::vector<ModuleInfo> modules;  // depth first, in the order of the reference model's named_modules()

  const ModuleInfo* find(std::string_view name) const;
};

// Checks that every tensor the architecture needs exists with the right shape; names what is missing or left
// over.
Result<ModelDescription> describe_model(const Checkpoint& checkpoint);

}  // namespace nibble
