// SPDX-License-Identifier: Apache-2.0
// A modifier as a recipe describes it: its class, its complete arguments, its stage and group. The table of
// classes is in modifier_table.cc; what a class does with its arguments is in modifier.h and the files of the
// modifiers.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "modify/fields.h"
#include "modify/scheme_values.h"

namespace nibble {

struct ModifierRow {
  std::string class_name;  // the key in a recipe
  std::string summary;
  std::vector<FieldRow> fields;  // in the order of recipe.yaml
  bool quantizes = false;        // has the shared quantization fields
  // Rules that tie fields together; may complete fields from others.
  Status (*check)(Arguments& arguments) = nullptr;
};

const std::vector<ModifierRow>& modifier_table();
// The error has the nearest class names.
Result<const ModifierRow*> find_modifier_row(std::string_view class_name);

struct ModifierConfig {
  const ModifierRow* row = nullptr;
  std::string stage;
  std::string group;
  Arguments arguments;

  const std::string& class_name() const { return row->class_name; }
  bool requires_calibration_data() const { return arguments.flag("requires_calibration_data"); }
};

// Reads the body of `class_name:` in a recipe.
Result<ModifierConfig> make_modifier_config(std::string_view class_name, std::string stage, std::string group,
                                            const RecipeValue& body, const RecipeRules& rules,
                                            std::vector<std::string>& warnings);

// What the shared quantization fields amount to: one scheme per group, presets and defaults filled in.
struct ResolvedQuantization {
  ConfigGroups config_groups;
  std::vector<std::string> ignore;
  std::optional<QuantizationArgs> kv_cache_scheme;

  std::vector<std::string> targets() const;  // sorted, each once
};

// Errors when both `scheme` and `config_groups` are given, or act-order is given twice with different values.
Result<ResolvedQuantization> resolve_quantization(const ModifierConfig& config);
// Sets `requires_calibration_data` where the schemes need it, and the observers of given groups: what the
// reference does when it reads the modifier.
Status complete_quantization(ModifierConfig& config);
// False for a modifier whose quantization fields all have their defaults.
bool has_quantization(const ModifierConfig& config);
// Why the modifier needs calibration data ("input_activations of group_0 are static"); empty when it does
// not.
Result<std::string> calibration_reason(const ModifierConfig& config);

}  // namespace nibble
