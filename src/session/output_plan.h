// SPDX-License-Identifier: Apache-2.0
// What a run writes, before any weight is read: which module becomes which tensors, what is carried over, and
// every byte of the files. The pipelines fill it in; --dry-run prints it.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/write_plan.h"
#include "codec/compressed_weight.h"
#include "model/modules.h"
#include "modify/scheme_map.h"
#include "session/sparse_plan.h"
#include "session/storage.h"

namespace nibble {

// A module whose weight is quantized.
struct PlannedModule {
  const ModuleInfo* module = nullptr;
  const QuantizationScheme* scheme = nullptr;
  CompressionFormat format = CompressionFormat::kDense;
  DType dtype = DType::kF32;  // of the weight that is quantized, and of its scales
  std::string source;         // tensor that holds the weight; for an untied head that of the embedding
  std::vector<StoredTensor> stored;
  std::optional<SparseLayout> sparse{};  // of the tensor "weight", which `stored` then has in that form

  std::string tensor_name(const std::string& suffix) const { return module->disk_name + "." + suffix; }
  std::int64_t weights() const { return module->rows * module->cols; }
  std::uint64_t bytes() const;
};

// A tensor that stays as it is, but for its float type.
struct CarriedTensor {
  std::string source;
  std::string name;
  DType dtype = DType::kF32;
  const ModuleInfo* module = nullptr;  // null for a tensor that no module uses
  bool is_bias = false;
  std::optional<SparseLayout> sparse{};  // a pruned weight
  std::vector<StoredTensor> stored{};    // of its sparse form; empty: the tensor `name`

  // The names that are written.
  std::vector<std::string> names() const;
};

// What calibration leaves beside the weights of a module: scales of static inputs and outputs, of keys and
// values.
struct PlannedActivations {
  const ModuleInfo* module = nullptr;
  std::vector<StoredTensor> stored;

  std::string tensor_name(const std::string& suffix) const { return module->disk_name + "." + suffix; }
};

struct OutputPlan {
  std::vector<PlannedModule> quantized;  // module order
  std::vector<CarriedTensor> carried;
  std::vector<PlannedActivations> activations;
  std::vector<std::string> dropped;  // tensors that no loader needs (rotary tables, causal masks)
  // Indices into `quantized` of what must be in memory together: siblings under one global scale, or single
  // modules.
  std::vector<std::vector<std::size_t>> units;
  bool unties_embeddings = false;
  WritePlan files;
};

struct OutputRules {
  bool save_compressed = true;
  bool tie_word_embeddings = true;
  StorageRule storage;
  SparseLayouts sparse{};  // of pruned modules
  std::uint64_t max_shard_bytes = 5'000'000'000;
};

// Errors name a module whose weight has no form that can be quantized, or that its format cannot hold.
Result<OutputPlan> plan_output(const Checkpoint& checkpoint, const ModelDescription& model,
                               const SchemeMap& schemes, const OutputRules& rules);

}  // namespace nibble
