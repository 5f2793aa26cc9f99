// SPDX-License-Identifier: Apache-2.0
// What config.json of the output says of the quantization, from the plan (fields: compressed-tensors
// quantization/quant_config.py); the text itself is checkpoint/quantization_config.h's.
#pragma once

#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "checkpoint/quantization_config.h"
#include "session/output_plan.h"

namespace nibble {

QuantizationConfig output_quantization(const ModelDescription& model, const SchemeMap& schemes,
                                       const OutputPlan& plan, bool save_compressed);

// Modules that are not quantized although others of their class are, by class in the order of the model.
std::vector<std::string> ignored_modules(const ModelDescription& model, const SchemeMap& schemes);

// The source's config.json with the type and the tying of the output, and its quantization.
std::string output_config_text(const Json& source, const QuantizationConfig& quantization,
                               const OutputPlan& plan, const StorageRule& storage);

}  // namespace nibble
