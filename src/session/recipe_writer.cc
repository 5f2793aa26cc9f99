// SPDX-License-Identifier: Apache-2.0
// recipe.yaml and the canonical JSON form of a recipe. Python tags of the reference's dumps are never
// written: its own reader cannot take them back.
#include <fmt/format.h>

#include "base/json.h"
#include "session/recipe.h"
#include "session/yaml.h"

namespace nibble {
namespace {

// Fields with the groups as the modifier will use them.
Result<RecipeValue> final_fields(const ModifierConfig& config) {
  RecipeValue fields = config.arguments.values;
  if (config.row->quantizes && !config.arguments.at("config_groups").is_null()) {
    TRY_ASSIGN(const ResolvedQuantization resolved, resolve_quantization(config));
    fields.set("config_groups", groups_to_value(resolved.config_groups));
  }
  return fields;
}

bool is_shown(const FieldRow& row, const ModifierConfig& config) {
  if (row.use == FieldUse::kOwn) return config.arguments.given.contains(row.name);
  return row.use == FieldUse::kNormal;
}

bool is_written(const FieldRow& row, const RecipeValue& value, const RecipeRules& rules) {
  if (value.is_null()) return !row.initial.is_null() && !rules.strict;
  const std::string* text = value.if_text();
  return !text || *text != "not_provided";  // the reference's word for an argument that nobody gave
}

Result<RecipeValue> written_fields(const ModifierConfig& config, const RecipeRules& rules) {
  TRY_ASSIGN(const RecipeValue fields, final_fields(config));
  RecipeValue out = RecipeValue::Map{};
  for (const FieldRow& row : config.row->fields) {
    const RecipeValue* value = fields.find(row.name);
    if (value && is_shown(row, config) && is_written(row, *value, rules)) out.set(row.name, *value);
  }
  return out;
}

// The reference drops a trailing number when it looks for a free one.
std::string base_of(const std::string& key) {
  const std::size_t digits = key.find_last_not_of("0123456789");
  const bool numbered = digits != std::string::npos && digits + 1 < key.size() && key[digits] == '_';
  return numbered ? key.substr(0, digits) : key;
}

Json json_fields(const ModifierConfig& config) {
  Json fields = Json::object();
  for (const FieldRow& row : config.row->fields) {
    if (is_shown(row, config)) fields[row.name] = to_json(config.arguments.at(row.name));
  }
  fields["group"] = config.group;
  return fields;
}

Result<Json> json_resolved(const ModifierConfig& config) {
  TRY_ASSIGN(const ResolvedQuantization resolved, resolve_quantization(config));
  Json json = Json::object();
  json["config_groups"] = to_json(groups_to_value(resolved.config_groups));
  json["ignore"] = resolved.ignore;
  json["kv_cache_scheme"] = to_json(config.arguments.at("kv_cache_scheme"));
  json["targets"] = resolved.targets();
  json["requires_calibration_data"] = config.requires_calibration_data();
  return json;
}

}  // namespace

Result<RecipeValue> recipe_tree(const Recipe& recipe, const RecipeRules& rules) {
  RecipeValue stage = RecipeValue::Map{};
  for (const ModifierConfig& config : recipe.modifiers) {
    TRY_ASSIGN(RecipeValue fields, written_fields(config, rules));
    // A group holds a class once, and order must survive: where that fails, the modifier gets a group of its
    // own.
    const auto fits = [&](const std::string& group) {
      const RecipeValue::Map& groups = *stage.if_map();
      return !stage.find(group) ||
             (groups.back().first == group && !groups.back().second.find(config.class_name()));
    };
    std::string group = config.group + "_modifiers";
    for (int i = 2; !fits(group); ++i) group = fmt::format("{}_{}_modifiers", config.group, i);
    if (!stage.find(group)) stage.set(group, RecipeValue::Map{});
    stage.find(group)->set(config.class_name(), std::move(fields));
  }
  return RecipeValue(RecipeValue::Map{{recipe.stage + "_stage", std::move(stage)}});
}

RecipeValue append_recipe_tree(RecipeValue existing, const RecipeValue& added) {
  if (!existing.if_map()) return added;
  for (const auto& [key, value] : *added.if_map()) {
    RecipeValue* old = existing.find(key);
    if (!old) {
      existing.set(key, value);
      continue;
    }
    const std::string base = base_of(key);
    if (key == base) {
      RecipeValue first = std::move(*old);
      std::erase_if(*existing.if_map(),
                    [&name = key](const RecipeValue::Entry& entry) { return entry.first == name; });
      existing.set(base + "_0", std::move(first));
      existing.set(base + "_1", value);
      continue;
    }
    int i = 1;
    while (existing.find(fmt::format("{}_{}", base, i))) ++i;
    existing.set(fmt::format("{}_{}", base, i), value);
  }
  return existing;
}

Result<std::string> recipe_to_yaml(const Recipe& recipe, const RecipeRules& rules) {
  TRY_ASSIGN(const RecipeValue tree, recipe_tree(recipe, rules));
  return write_yaml(tree);
}

Result<Json> recipe_to_json(const Recipe& recipe) {
  Json json = Json::object();
  json["stage"] = recipe.stage;
  json["args"] = to_json(recipe.args);
  json["modifiers"] = Json::array();
  for (const ModifierConfig& config : recipe.modifiers) {
    Json modifier = Json::object();
    modifier["class"] = config.class_name();
    modifier["fields"] = json_fields(config);
    modifier["requires_calibration_data"] = config.requires_calibration_data();
    if (config.row->quantizes) {
      TRY_ASSIGN(modifier["resolved"], json_resolved(config));
    }
    json["modifiers"].push_back(std::move(modifier));
  }
  return json;
}

}  // namespace nibble
