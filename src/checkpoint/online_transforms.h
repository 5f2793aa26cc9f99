// SPDX-License-Identifier: Apache-2.0
// Rotations that a runtime applies to activations (`transform_config`, compressed-tensors transform/): y = x
// V before a linear or after it. Folding them into the dense weight gives the model that transformers
// computes in floating point: (x V) W^T = x (W V^T)^T. Rotations of queries and keys cancel in their product
// and need nothing.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"
#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/quantization_config.h"

namespace nibble {

// Whether a runtime has to apply it: the others are folded when a model is saved, or cancel (q_attn,
// k_cache).
bool is_online(const TransformUse& use);

// Refuses a rotation of activations that no linear of the checkpoint takes: without it the weights, which
// hold its inverse, stand for another model. `unmatched`, where given, receives what is only worth a warning:
// entries that match nothing beside others that do.
Status check_online_targets(const QuantizationConfig& config, const Checkpoint& checkpoint,
                            std::vector<std::string>* unmatched = nullptr);

class OnlineTransforms {
 public:
  static Result<OnlineTransforms> make(const QuantizationConfig& config, const Checkpoint& checkpoint);

  bool empty() const { return rows_.empty(); }
  // A stored rotation matrix: no parameter of the model.
  bool is_matrix(std::string_view tensor) const { return matrices_.contains(std::string(tensor)); }
  bool touches(std::string_view module) const;
  // The weight [rows, cols] of the linear `module`, or its bias [rows], with the rotations folded in; F32.
  Result<Tensor> fold_weight(std::string_view module, const Tensor& weight, ThreadPool& pool) const;
  Result<Tensor> fold_bias(std::string_view module, const Tensor& bias) const;

 private:
  struct Row {
    TransformScheme scheme;
    TransformUse use;
    ModuleTargets targets, ignore;
    std::string suffix;  // of the matrices: "R4_input.weight"
  };
  bool applies(const Row& row, std::string_view module) const;
  // V of a row at `module`, [size, size] in fp64; `width` is the dimension it acts on.
  Result<std::vector<double>> matrix(const Row& row, std::string_view module, std::int64_t width) const;

  std::vector<Row> rows_;
  std::map<std::string, Tensor> matrices_;
};

}  // namespace nibble
