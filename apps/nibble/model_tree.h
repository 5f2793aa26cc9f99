// SPDX-License-Identifier: Apache-2.0
// The modules of a model as a tree, with equal neighbours in a list folded into one line: "(0-11): 12 x
// LlamaDecoderLayer". And how large a model is by the formula of its parameters.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/json_fwd.h"
#include "model/modules.h"

namespace nibble::app {

// How a module's values are quantized, in words; empty where they are not.
struct QuantizationLabels {
  std::string weights{};
  std::string activations{};
  std::string outputs{};
};
using LabelFinder = std::function<QuantizationLabels(const ModuleInfo& module)>;

// {name, class, in_features, out_features, bias, weight_quant, act_quant, output_quant, children}; a folded
// node has `first`, `last` and `count`.
Json model_tree(const ModelDescription& model, const LabelFinder& labels);
std::string tree_text(const Json& tree);

// Weights and biases of all modules; a tied head counts once.
std::int64_t parameter_count(const ModelDescription& model);
// MiB of `parameters` at data_width bits each; groups of group_size > 0 add a 16-bit scale and a 4-bit zero
// point.
double nominal_mib(std::int64_t parameters, double data_width, std::int64_t group_size);

}  // namespace nibble::app
