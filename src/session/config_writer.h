// SPDX-License-Identifier: Apache-2.0
// config.json of the output: the source's, with `quantization_config` as compressed-tensors 0.19 writes it
// (llm-compressor.md 5.3).
#pragma once

#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "session/output_plan.h"

namespace nibble {

// The `quantization_config` of a plan; null when nothing is quantized.
Json quantization_config_json(const ModelDescription& model, const SchemeMap& schemes, const OutputPlan& plan,
                              bool save_compressed);

// Modules that are not quantized although others of their class are, by class in the order of the model.
std::vector<std::string> ignored_modules(const ModelDescription& model, const SchemeMap& schemes);

// The text of config.json: sorted keys, indented by two.
std::string output_config_text(const Json& source, const Json& quantization_config, const OutputPlan& plan,
                               const StorageRule& storage);

}  // namespace nibble
