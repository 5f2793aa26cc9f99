// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/quantization_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/json.h"
#include "base/suggest.h"

namespace nibble {
namespace {

const std::vector<std::string>& args_keys() {
  static const std::vector<std::string> keys{
      "actorder",        "block_structure", "dynamic",  "group_size", "num_bits", "observer",
      "observer_kwargs", "scale_dtype",     "strategy", "symmetric",  "type",     "zp_dtype"};
  return keys;
}

const Json* member(const Json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

Result<std::vector<std::string>> string_list(const Json& object, const char* key) {
  std::vector<std::string> list;
  const Json* value = member(object, key);
  if (value == nullptr) return list;
  if (!value->is_array())
    return bad_data(fmt::format("\"{}\" must be a list of strings, found {}", key, json_excerpt(*value)));
  for (const Json& item : *value) {
    if (!item.is_string()) {
      return bad_data(fmt::format("\"{}\" must be a list of strings, found {}", key, json_excerpt(*value)));
    }
    list.push_back(item.get<std::string>());
  }
  return list;
}

// A word of a table, read by `convert`.
template <class T, class Convert>
Status read_word(const Json& object, const char* key, const Convert& convert, T& out) {
  if (member(object, key) == nullptr) return {};
  TRY_ASSIGN(const std::string text, json_string(object, key));
  const auto value = convert(text);
  if (!value) return bad_data(fmt::format("\"{}\" is \"{}\", which is not known", key, text));
  out = *value;
  return {};
}

template <class T, class Read>
Status read_if_there(const Json& object, const char* key, const Read& read, std::optional<T>& out) {
  if (member(object, key) == nullptr) return {};
  TRY_ASSIGN(out, read(object, key));
  return {};
}

Status read_dynamic(const Json& object, QuantizationArgs& args) {
  const Json* value = member(object, "dynamic");
  if (value == nullptr) return {};
  if (value->is_boolean()) {
    args.dynamic = value->get<bool>() ? Dynamic::kTrue : Dynamic::kFalse;
  } else if (*value == "local") {
    args.dynamic = Dynamic::kLocal;
  } else {
    return bad_data(
        fmt::format("\"dynamic\" must be true, false or \"local\", found {}", json_excerpt(*value)));
  }
  return {};
}

// Old files have true for "group".
Status read_actorder(const Json& object, QuantizationArgs& args) {
  const Json* value = member(object, "actorder");
  if (value == nullptr || *value == false) return {};
  args.actorder_spelling = *value == true       ? "group"
                           : value->is_string() ? value->get<std::string>()
                                                : json_excerpt(*value);
  args.actorder = actorder_from_string(args.actorder_spelling);
  if (args.actorder) return {};
  return bad_data(
      fmt::format("\"actorder\" is {}; known are static, weight, group, dynamic", json_excerpt(*value)));
}

Status read_block_structure(const Json& object, QuantizationArgs& args) {
  const Json* value = member(object, "block_structure");
  if (value == nullptr) return {};
  if (value->is_string()) {
    TRY_ASSIGN(args.block_structure, block_structure_from_string(value->get<std::string>()));
    return {};
  }
  const bool pair = value->is_array() && value->size() == 2 && (*value)[0].is_number_integer() &&
                    (*value)[1].is_number_integer();
  if (!pair)
    return bad_data(fmt::format("\"block_structure\" must be two integers, found {}", json_excerpt(*value)));
  args.block_structure = std::array{(*value)[0].get<std::int64_t>(), (*value)[1].get<std::int64_t>()};
  return {};
}

Status read_observer(const Json& object, QuantizationArgs& args) {
  TRY(read_if_there(object, "observer", json_string, args.observer));
  const Json* kwargs = member(object, "observer_kwargs");
  if (kwargs == nullptr) return {};
  if (!kwargs->is_object())
    return bad_data(fmt::format("\"observer_kwargs\" must be an object, found {}", json_excerpt(*kwargs)));
  for (const auto& [key, value] : kwargs->items()) {
    if (value.is_boolean()) {
      args.observer_kwargs[key] = value.get<bool>();
    } else if (value.is_number_integer()) {
      args.observer_kwargs[key] = value.get<std::int64_t>();
    } else if (value.is_number()) {
      args.observer_kwargs[key] = value.get<double>();
    } else {
      args.observer_kwargs[key] = value.is_string() ? value.get<std::string>() : json_excerpt(value);
    }
  }
  return {};
}

Result<QuantizationArgs> read_args(const Json& object, std::string_view field) {
  if (!object.is_object()) return bad_data(fmt::format("expected an object, found {}", json_excerpt(object)));
  for (const auto& [key, value] : object.items()) {
    if (std::find(args_keys().begin(), args_keys().end(), key) != args_keys().end()) continue;
    return bad_data(fmt::format("the key \"{}\" is not known", key), did_you_mean(key, args_keys()));
  }
  QuantizationArgs args;
  TRY_ASSIGN(const std::int64_t bits, json_int_or(object, "num_bits", 8));
  args.num_bits = static_cast<int>(std::clamp<std::int64_t>(bits, -1, 1000));
  TRY(read_word(object, "type", number_type_from_string, args.type));
  TRY_ASSIGN(args.symmetric, json_bool_or(object, "symmetric", true));
  TRY(read_if_there(object, "group_size", json_int, args.group_size));
  TRY(read_word(object, "strategy", strategy_from_string, args.strategy));
  TRY(read_block_structure(object, args));
  TRY(read_dynamic(object, args));
  TRY(read_actorder(object, args));
  TRY(read_word(object, "scale_dtype", dtype_from_torch, args.scale_dtype));
  TRY(read_word(object, "zp_dtype", dtype_from_torch, args.zp_dtype));
  TRY(read_observer(object, args));
  TRY(args.validate(field));
  return args;
}

Status read_optional_args(const Json& group, const char* key, std::optional<QuantizationArgs>& out) {
  const Json* value = member(group, key);
  if (value == nullptr) return {};
  TRY_ASSIGN(out, read_args(*value, key).at(key));
  return {};
}

Result<QuantizationScheme> read_group(const std::string& name, const Json& group) {
  if (group.is_array()) {  // a preset as the key, targets as the value
    const auto preset = preset_scheme(name);
    if (!preset) {
      return bad_data(fmt::format("a list of targets needs the name of a preset, \"{}\" is none", name),
                      did_you_mean(name, preset_names()));
    }
    QuantizationScheme scheme = *preset;
    TRY_ASSIGN(scheme.targets, string_list(Json{{"targets", group}}, "targets"));
    return scheme;
  }
  if (!group.is_object()) return bad_data(fmt::format("expected an object, found {}", json_excerpt(group)));
  QuantizationScheme scheme;
  TRY_ASSIGN(scheme.targets, string_list(group, "targets"));
  TRY(read_optional_args(group, "weights", scheme.weights));
  TRY(read_optional_args(group, "input_activations", scheme.input_activations));
  TRY(read_optional_args(group, "output_activations", scheme.output_activations));
  TRY(read_if_there(group, "format", json_string, scheme.format));
  return scheme;
}

Result<TransformUse> read_transform_use(const Json& object) {
  TransformUse use;
  TRY_ASSIGN(use.targets, string_list(object, "targets"));
  TRY_ASSIGN(use.ignore, string_list(object, "ignore"));
  TRY_ASSIGN(use.location, json_string(object, "location"));
  TRY_ASSIGN(use.inverse, json_bool_or(object, "inverse", false));
  return use;
}

Result<TransformScheme> read_transform(const std::string& name, const Json& object) {
  TransformScheme scheme;
  scheme.name = name;
  TRY_ASSIGN(scheme.type, json_string(object, "type"));
  TRY_ASSIGN(scheme.randomize, json_bool_or(object, "randomize", false));
  TRY_ASSIGN(scheme.requires_grad, json_bool_or(object, "requires_grad", false));
  TRY(read_if_there(object, "head_dim", json_int, scheme.head_dim));
  TRY(read_word(object, "precision", dtype_from_torch, scheme.precision));
  const Json* apply = member(object, "apply");
  if (apply == nullptr || !apply->is_array()) return bad_data("\"apply\" must be a list");
  for (const Json& item : *apply) {
    TRY_ASSIGN(TransformUse use, read_transform_use(item).at("apply"));
    scheme.uses.push_back(std::move(use));
  }
  return scheme;
}

Status read_transforms(const Json& object, QuantizationConfig& config) {
  const Json* transform = member(object, "transform_config");
  const Json* groups = transform == nullptr ? nullptr : member(*transform, "config_groups");
  if (groups == nullptr) return {};
  if (!groups->is_object()) return bad_data("transform_config: \"config_groups\" must be an object");
  for (const auto& [name, value] : groups->items()) {
    TRY_ASSIGN(TransformScheme scheme,
               read_transform(name, value).at(fmt::format("transform_config: {}", name)));
    config.transforms.push_back(std::move(scheme));
  }
  return {};
}

Status read_groups(const Json& object, QuantizationConfig& config) {
  const Json* groups = member(object, "config_groups");
  if (groups == nullptr) return {};
  if (!groups->is_object())
    return bad_data(fmt::format("\"config_groups\" must be an object, found {}", json_excerpt(*groups)));
  for (const auto& [name, value] : groups->items()) {
    TRY_ASSIGN(QuantizationScheme scheme, read_group(name, value).at(fmt::format("config_groups: {}", name)));
    // A format at the top holds for groups that name none; "mixed-precision" says to look there.
    const auto top = format_from_string(config.format);
    if (!scheme.format && top && *top != CompressionFormat::kDense) scheme.format = config.format;
    config.groups.emplace_back(name, std::move(scheme));
  }
  return {};
}

Result<QuantizationConfig> read_config(const Json& object) {
  QuantizationConfig config;
  TRY_ASSIGN(config.version, json_string_or(object, "version", ""));
  TRY_ASSIGN(config.format, json_string_or(object, "format", ""));
  TRY_ASSIGN(config.status, json_string_or(object, "quantization_status", ""));
  TRY(read_groups(object, config));
  TRY_ASSIGN(config.ignore, string_list(object, "ignore"));
  TRY(read_optional_args(object, "kv_cache_scheme", config.kv_cache_scheme));
  TRY(read_transforms(object, config));
  if (const Json* sparsity = member(object, "sparsity_config");
      sparsity != nullptr && sparsity->is_object()) {
    TRY_ASSIGN(config.sparsity_format, json_string_or(*sparsity, "format", ""));
    TRY_ASSIGN(config.sparsity_targets, string_list(*sparsity, "targets"));
    TRY_ASSIGN(config.sparsity_ignore, string_list(*sparsity, "ignore"));
    TRY_ASSIGN(config.sparsity_structure, json_string_or(*sparsity, "sparsity_structure", "unstructured"));
    const Json* share = member(*sparsity, "global_sparsity");
    if (share != nullptr && share->is_number()) config.global_sparsity = share->get<double>();
  }
  return config;
}

struct Found {
  const Json* object = nullptr;
  std::string_view place;
};

Found find_object(const Json& config) {
  if (const Json* found = member(config, "quantization_config")) return {found, "quantization_config"};
  if (const Json* text = member(config, "text_config")) {
    if (const Json* found = member(*text, "quantization_config"))
      return {found, "text_config: quantization_config"};
  }
  if (const Json* found = member(config, "compression_config")) return {found, "compression_config"};
  return {};
}

}  // namespace

Result<std::optional<QuantizationConfig>> read_quantization_config(const Json& config) {
  const Found found = find_object(config);
  if (found.object == nullptr) return std::optional<QuantizationConfig>();
  const std::string place = fmt::format("config.json: {}", found.place);
  if (!found.object->is_object()) {
    return Error(bad_data(fmt::format("expected an object, found {}", json_excerpt(*found.object))))
        .add_context(place);
  }
  TRY_ASSIGN(const std::string method,
             json_string_or(*found.object, "quant_method", "compressed-tensors").at(place));
  if (method != "compressed-tensors") {
    return Error(bad_data(fmt::format("quant_method \"{}\" cannot be read, only \"compressed-tensors\" can",
                                      method),
                          "start from the unquantized model"))
        .add_context(place);
  }
  TRY_ASSIGN(QuantizationConfig read, read_config(*found.object).at(place));
  return std::optional(std::move(read));
}

Result<SchemeResolver> SchemeResolver::make(const QuantizationConfig& config) {
  SchemeResolver resolver;
  std::vector<std::string> targets;
  for (std::size_t g = 0; g < config.groups.size(); ++g) {
    for (const std::string& target : config.groups[g].second.targets) {
      targets.push_back(target);
      resolver.group_of_target_.push_back(g);
    }
  }
  TRY_ASSIGN(resolver.targets_, ModuleTargets::parse(targets).at("config_groups"));
  TRY_ASSIGN(resolver.ignore_, ModuleTargets::parse(config.ignore).at("ignore"));
  return resolver;
}

Status SchemeResolver::check(std::string_view module) const {
  TRY(targets_.check(module).at("config_groups"));
  return ignore_.check(module).at("ignore");
}

std::optional<std::size_t> SchemeResolver::group_of(std::string_view module,
                                                    std::span<const std::string_view> classes) const {
  if (ignore_.matches(module, classes)) return std::nullopt;
  const auto target = targets_.winner(module, classes);
  return target ? std::optional(group_of_target_[*target]) : std::nullopt;
}

}  // namespace nibble
