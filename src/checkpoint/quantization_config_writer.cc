// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"
#include "checkpoint/quantization_config.h"

namespace nibble {
namespace {

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json torch_dtype(const std::optional<DType>& dtype) {
  return dtype ? Json("torch." + std::string(torch_name(*dtype))) : Json(nullptr);
}

Json optional_args(const std::optional<QuantizationArgs>& args) {
  return args ? to_json(*args) : Json(nullptr);
}

Json dynamic_json(Dynamic dynamic) {
  if (dynamic == Dynamic::kLocal) return "local";
  return dynamic == Dynamic::kTrue;
}

Json actorder_json(const QuantizationArgs& args) {
  if (!args.actorder) return nullptr;
  return args.actorder_spelling.empty() ? Json(to_string(*args.actorder)) : Json(args.actorder_spelling);
}

Json scheme_json(const QuantizationScheme& scheme) {
  Json json;
  json["format"] = or_null(scheme.format);
  json["input_activations"] = optional_args(scheme.input_activations);
  json["output_activations"] = optional_args(scheme.output_activations);
  json["targets"] = scheme.targets;
  json["weights"] = optional_args(scheme.weights);
  return json;
}

Json transform_json(const TransformScheme& scheme) {
  Json json;
  json["apply"] = Json::array();
  for (const TransformUse& use : scheme.uses) {
    Json item;
    item["ignore"] = use.ignore;
    item["inverse"] = use.inverse;
    item["location"] = use.location;
    item["targets"] = use.targets;
    json["apply"].push_back(std::move(item));
  }
  json["head_dim"] = or_null(scheme.head_dim);
  json["precision"] = torch_dtype(scheme.precision);
  json["randomize"] = scheme.randomize;
  json["requires_grad"] = scheme.requires_grad;
  json["type"] = scheme.type;
  return json;
}

Json sparsity_json(const QuantizationConfig& config) {
  Json json = Json::object();
  if (config.sparsity_format.empty()) return json;
  json["format"] = config.sparsity_format;
  json["global_sparsity"] = config.global_sparsity;
  json["ignore"] = config.sparsity_ignore;
  json["sparsity_structure"] = config.sparsity_structure;
  json["targets"] = config.sparsity_targets;
  return json;
}

}  // namespace

Json to_json(const QuantizationArgs& args) {
  Json json;
  json["actorder"] = actorder_json(args);
  json["block_structure"] = or_null(args.block_structure);
  json["dynamic"] = dynamic_json(args.dynamic);
  json["group_size"] = or_null(args.group_size);
  json["num_bits"] = args.num_bits;
  json["observer"] = or_null(args.observer);
  json["observer_kwargs"] = Json::object();
  for (const auto& [key, value] : args.observer_kwargs) {
    std::visit([&, &name = key](const auto& v) { json["observer_kwargs"][name] = v; }, value);
  }
  json["scale_dtype"] = torch_dtype(args.scale_dtype);
  json["strategy"] = args.strategy ? Json(to_string(*args.strategy)) : Json(nullptr);
  json["symmetric"] = args.symmetric;
  json["type"] = to_string(args.type);
  json["zp_dtype"] = args.symmetric ? Json(nullptr) : torch_dtype(args.zp_dtype);
  return json;
}

Json to_json(const QuantizationConfig& config) {
  Json json;
  json["quant_method"] = "compressed-tensors";
  json["sparsity_config"] = sparsity_json(config);
  json["transform_config"] = Json::object();
  for (const TransformScheme& scheme : config.transforms) {
    json["transform_config"]["config_groups"][scheme.name] = transform_json(scheme);
  }
  json["version"] = config.version;
  if (!config.has_quantization()) return json;  // the reference writes nothing else
  json["config_groups"] = Json::object();
  for (const auto& [name, scheme] : config.groups) json["config_groups"][name] = scheme_json(scheme);
  json["format"] = config.format;
  json["global_compression_ratio"] = nullptr;
  json["ignore"] = config.ignore;
  json["kv_cache_scheme"] = optional_args(config.kv_cache_scheme);
  json["quantization_status"] = config.status;
  return json;
}

std::string config_text(const Json& config, const QuantizationConfig* quantization) {
  Json written = config;
  written.erase("quantization_config");
  written.erase("compression_config");
  if (written.contains("text_config") && written["text_config"].is_object()) {
    written["text_config"].erase("quantization_config");
  }
  if (quantization != nullptr) written["quantization_config"] = to_json(*quantization);
  // Only nlohmann::json sorts its keys; going through text keeps integers and floats apart.
  const auto replace = Json::error_handler_t::replace;
  const nlohmann::json sorted = nlohmann::json::parse(written.dump(-1, ' ', false, replace));
  return sorted.dump(2, ' ', true, nlohmann::json::error_handler_t::replace);
}

}  // namespace nibble
