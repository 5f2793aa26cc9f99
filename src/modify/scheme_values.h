// SPDX-License-Identifier: Apache-2.0
// Quantization arguments and schemes between recipes (maps) and codec's structs. The order of keys is the
// reference's, so that a written recipe reads like its own.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "codec/scheme.h"
#include "modify/fields.h"

namespace nibble {

// The arguments with inferred fields filled, except `observer`, which stays as the recipe has it: its default
// depends on the modifier. `field` is "weights", "input_activations", ...
Result<QuantizationArgs> args_from_value(const RecipeValue& value, std::string_view field);
RecipeValue args_to_value(const QuantizationArgs& args);

// A group of `config_groups`; `name` may be a preset with a list of targets as its value.
Result<QuantizationScheme> scheme_from_value(const std::string& name, const RecipeValue& value);
RecipeValue scheme_to_value(const QuantizationScheme& scheme);

using ConfigGroups = std::vector<std::pair<std::string, QuantizationScheme>>;
Result<ConfigGroups> groups_from_value(const RecipeValue& value);
RecipeValue groups_to_value(const ConfigGroups& groups);

// "W4A16 group 128 asymmetric", "W8A8 channel, float": a scheme in a few words.
std::string scheme_label(const QuantizationScheme& scheme);

// The rows of an argument set, for documentation.
const std::vector<FieldRow>& quantization_args_rows();

// Names of observers that recipes may use.
const std::vector<std::string>& observer_names();
Status check_observer(std::string_view name);

}  // namespace nibble
