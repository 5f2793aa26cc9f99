// SPDX-License-Identifier: Apache-2.0
// From the shared quantization fields of a modifier to one scheme per group.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "modify/modifier_config.h"

namespace nibble {
namespace {

struct ObserverWish {
  std::optional<std::string> name;  // what the modifier's own fields say
  const char* otherwise;            // what an argument set without an observer gets
};

std::optional<std::string> wished(const Arguments& arguments, const char* field, const char* key) {
  if (const RecipeValue* value = arguments.at("observer").find(key)) return value->texts()[0];
  const std::string text = arguments.text(field);
  return text.empty() ? std::nullopt : std::optional(text);
}

void set_observer(std::optional<QuantizationArgs>& args, const ObserverWish& wish) {
  if (!args) return;
  if (wish.name) {
    args->observer = wish.name;
  } else if (!args->observer && args->dynamic != Dynamic::kTrue) {
    args->observer = wish.otherwise;
  }
}

void set_observers(const Arguments& arguments, ConfigGroups& groups) {
  const ObserverWish weights{wished(arguments, "weight_observer", "weights"), "memoryless_minmax"};
  const ObserverWish input{wished(arguments, "input_observer", "input"), "minmax"};
  const ObserverWish output{wished(arguments, "output_observer", "output"), "minmax"};
  for (auto& [name, scheme] : groups) {
    set_observer(scheme.weights, weights);
    set_observer(scheme.input_activations, input);
    set_observer(scheme.output_activations, output);
  }
}

ConfigGroups groups_of_scheme(const RecipeValue& scheme, const std::vector<std::string>& targets) {
  RecipeValue::Map map;
  if (const RecipeValue::Map* given = scheme.if_map()) {
    map = *given;
  } else {
    map.emplace_back(*scheme.if_text(), RecipeValue::text_list(targets));
  }
  ConfigGroups groups;
  for (const auto& [preset, preset_targets] : map) {
    QuantizationScheme resolved = *preset_scheme(preset);
    resolved.targets = preset_targets.texts();
    groups.emplace_back(fmt::format("group_{}", groups.size()), std::move(resolved));
  }
  return groups;
}

// The modifier's act-order against that of a group: the default gives way, an explicit value must agree.
Status set_actorder(const ModifierConfig& config, const std::string& group, QuantizationArgs& weights) {
  const std::string own = config.arguments.text("actorder");
  const std::string& existing = weights.actorder_spelling;
  const bool explicit_value = config.arguments.given.contains("actorder");
  if (weights.actorder && !explicit_value) return {};
  if (weights.actorder && actorder_from_string(own) != weights.actorder) {  // "static" is "weight"
    return usage_error(fmt::format("actorder is {} for the modifier and \"{}\" for group {}",
                                   own.empty() ? "null" : "\"" + own + "\"", existing, group),
                       "give it in one of the two places");
  }
  if (own.empty()) return {};
  weights.actorder = actorder_from_string(own);
  weights.actorder_spelling = own;
  return {};
}

Status set_actorders(const ModifierConfig& config, ConfigGroups& groups) {
  for (auto& [name, scheme] : groups) {
    if (scheme.weights) TRY(set_actorder(config, name, *scheme.weights).at(config.class_name()));
  }
  return {};
}

bool needs_data(const std::string& observer) {
  return observer == "imatrix_mse" || observer == "nvfp4_expanded_imatrix";
}

std::string reason_of_scheme(const std::string& group, const QuantizationScheme& scheme) {
  if (scheme.weights && needs_data(scheme.weights->observer.value_or(""))) {
    return fmt::format("the observer {} of {} weighs columns by their inputs", *scheme.weights->observer,
                       group);
  }
  if (scheme.input_activations && scheme.input_activations->dynamic != Dynamic::kTrue) {
    return fmt::format("the input_activations of {} are {}", group,
                       scheme.input_activations->dynamic == Dynamic::kLocal
                           ? "local (they store a global scale)"
                           : "static");
  }
  if (scheme.output_activations && scheme.output_activations->dynamic == Dynamic::kFalse) {
    return fmt::format("the output_activations of {} are static", group);
  }
  return {};
}

}  // namespace

std::vector<std::string> ResolvedQuantization::targets() const {
  std::set<std::string> all;
  for (const auto& [name, scheme] : config_groups) all.insert(scheme.targets.begin(), scheme.targets.end());
  if (kv_cache_scheme) all.insert("re:.*(self_attn|attention)$");
  return {all.begin(), all.end()};
}

Result<ResolvedQuantization> resolve_quantization(const ModifierConfig& config) {
  const Arguments& arguments = config.arguments;
  ResolvedQuantization resolved;
  resolved.ignore = arguments.texts("ignore");
  if (const RecipeValue& kv = arguments.at("kv_cache_scheme"); !kv.is_null()) {
    TRY_ASSIGN(resolved.kv_cache_scheme, args_from_value(kv, "kv_cache_scheme"));
  }
  if (const RecipeValue& scheme = arguments.at("scheme"); !scheme.is_null()) {
    resolved.config_groups = groups_of_scheme(scheme, arguments.texts("targets"));
  } else if (const RecipeValue& groups = arguments.at("config_groups"); !groups.is_null()) {
    TRY_ASSIGN(resolved.config_groups, groups_from_value(groups));
  }
  if (resolved.config_groups.empty()) {
    QuantizationScheme nothing;
    nothing.targets = arguments.texts("targets");
    resolved.config_groups.emplace_back("group_0", std::move(nothing));
  }
  set_observers(arguments, resolved.config_groups);
  if (arguments.values.find("actorder")) TRY(set_actorders(config, resolved.config_groups));
  return resolved;
}

Status complete_quantization(ModifierConfig& config) {
  if (config.requires_calibration_data()) return {};
  TRY_ASSIGN(const std::string reason, calibration_reason(config));
  if (!reason.empty()) config.arguments.values.set("requires_calibration_data", true);
  const bool has_groups = !config.arguments.at("config_groups").is_null();
  if (has_groups && config.arguments.at("kv_cache_scheme").is_null()) {
    TRY_ASSIGN(const ResolvedQuantization resolved, resolve_quantization(config));
    config.arguments.values.set("config_groups", groups_to_value(resolved.config_groups));
  }
  return {};
}

bool has_quantization(const ModifierConfig& config) {
  const Arguments& arguments = config.arguments;
  return !arguments.at("config_groups").is_null() || !arguments.at("scheme").is_null() ||
         !arguments.at("kv_cache_scheme").is_null() || !arguments.texts("ignore").empty() ||
         arguments.texts("targets") != std::vector<std::string>{"Linear"};
}

Result<std::string> calibration_reason(const ModifierConfig& config) {
  if (config.row->quantizes) {
    TRY_ASSIGN(const ResolvedQuantization resolved, resolve_quantization(config));
    if (resolved.kv_cache_scheme) return std::string("kv_cache_scheme is given (scales of keys and values)");
    for (const auto& [name, scheme] : resolved.config_groups) {
      if (std::string reason = reason_of_scheme(name, scheme); !reason.empty()) return reason;
    }
  }
  if (!config.requires_calibration_data()) return std::string();
  return config.row->summary;
}

}  // namespace nibble
