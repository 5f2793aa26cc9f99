// SPDX-License-Identifier: Apache-2.0
#include "session/recipe_shortcuts.h"

#include <fmt/format.h>

#include "base/suggest.h"
#include "session/yaml.h"

namespace nibble {
namespace {

Result<const MethodRow*> find_method(const std::string& name) {
  std::vector<std::string> names;
  for (const MethodRow& row : method_table()) {
    if (row.name == name) return &row;
    names.push_back(row.name);
  }
  return usage_error(fmt::format("method \"{}\" is unknown; allowed are {}", name, join_or(names)),
                     did_you_mean(name, names));
}

Result<QuantizationScheme> find_preset(const std::string& name) {
  if (auto scheme = preset_scheme(name)) return *scheme;
  std::string hint = did_you_mean(name, preset_names());
  if (hint.empty()) hint = "presets are " + join_or(preset_names());
  return usage_error(fmt::format("\"{}\" is no preset scheme", name), std::move(hint));
}

// The preset with another group size: 128 columns become `size`, or the whole row.
Result<QuantizationScheme> regroup(QuantizationScheme scheme, const std::string& name, std::int64_t size) {
  if (!scheme.weights || scheme.weights->strategy != Strategy::kGroup || scheme.weights->is_mx()) {
    return usage_error(fmt::format("group_size is given, but {} has no groups of a free size", name),
                       "drop group_size, or use W4A16 or another scheme with groups");
  }
  QuantizationArgs& weights = *scheme.weights;
  weights.group_size = size;
  weights.strategy = size == -1 ? Strategy::kChannel : Strategy::kGroup;
  TRY(weights.validate("weights"));
  return scheme;
}

Result<RecipeValue> quantization_fields(const Shortcut& shortcut) {
  TRY_ASSIGN(QuantizationScheme scheme, find_preset(shortcut.scheme));
  RecipeValue fields = RecipeValue::Map{{"ignore", RecipeValue::text_list(shortcut.ignore)}};
  if (!shortcut.group_size || (scheme.weights && scheme.weights->group_size == shortcut.group_size)) {
    fields.set("targets", "Linear");
    fields.set("scheme", shortcut.scheme);
    return fields;
  }
  TRY_ASSIGN(scheme, regroup(std::move(scheme), shortcut.scheme, *shortcut.group_size));
  fields.set("config_groups", RecipeValue::Map{{"group_0", scheme_to_value(scheme)}});
  return fields;
}

}  // namespace

const std::vector<MethodRow>& method_table() {
  static const std::vector<MethodRow> table{
      {"rtn", "round to nearest; needs no data", {"QuantizationModifier"}},
      {"gptq", "error-compensated rounding", {"GPTQModifier"}},
      {"awq", "activation-aware scaling, then rounding", {"AWQModifier", "QuantizationModifier"}},
      {"awq+gptq",
       "activation-aware scaling, then error-compensated rounding",
       {"AWQModifier", "GPTQModifier"}},
      {"smoothquant",
       "outliers moved into weights, then rounding",
       {"SmoothQuantModifier", "QuantizationModifier"}},
      {"smoothquant+gptq",
       "outliers moved into weights, then error-compensated rounding",
       {"SmoothQuantModifier", "GPTQModifier"}},
  };
  return table;
}

Result<Recipe> recipe_of_shortcut(const Shortcut& shortcut) {
  TRY_ASSIGN(const MethodRow* method, find_method(shortcut.method));
  TRY_ASSIGN(const RecipeValue quantization, quantization_fields(shortcut));
  RecipeValue group = RecipeValue::Map{};
  for (const std::string& class_name : method->modifiers) {
    group.set(class_name,
              class_name == method->modifiers.back() ? quantization : RecipeValue(RecipeValue::Map{}));
  }
  const RecipeValue tree =
      RecipeValue::Map{{"quant_stage", RecipeValue::Map{{"quant_modifiers", std::move(group)}}}};
  return parse_recipe(write_yaml(tree), RecipeSyntax::kYaml);
}

}  // namespace nibble
