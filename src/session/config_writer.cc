// SPDX-License-Identifier: Apache-2.0
#include "session/config_writer.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/json.h"
#include "modify/scheme_values.h"

namespace nibble {
namespace {

// The release whose layout we write.
constexpr const char* kCompressedTensorsVersion = "0.19.0";

// The class as vLLM loads it: routers count as linears (compressed-tensors get_vllm_module_type).
std::string loaded_class(const ModuleInfo& module) {
  return module.role == ModuleRole::kRouter ? "Linear" : module.class_name;
}

bool is_quantized(const QuantizationScheme* scheme) {
  return scheme && (scheme->weights || scheme->input_activations || scheme->output_activations);
}

// Each scheme once, in module order, with the format of its modules.
std::vector<QuantizationScheme> unique_schemes(const OutputPlan& plan) {
  std::vector<QuantizationScheme> schemes;
  for (const PlannedModule& quantized : plan.quantized) {
    QuantizationScheme scheme = *quantized.scheme;
    scheme.format = std::string(to_string(quantized.format));
    if (std::find(schemes.begin(), schemes.end(), scheme) == schemes.end())
      schemes.push_back(std::move(scheme));
  }
  return schemes;
}

std::string overall_format(const std::vector<QuantizationScheme>& schemes) {
  std::set<std::string> formats;
  for (const QuantizationScheme& scheme : schemes) formats.insert(*scheme.format);
  if (formats.empty()) return "dense";
  return formats.size() == 1 ? *formats.begin() : "mixed-precision";
}

void set_dtype(Json& config, DType dtype) {
  const std::string name(torch_name(dtype));
  const bool has_old_key = config.contains("torch_dtype");
  if (has_old_key) config["torch_dtype"] = name;
  if (config.contains("dtype") || !has_old_key) config["dtype"] = name;
}

}  // namespace

std::vector<std::string> ignored_modules(const ModelDescription& model, const SchemeMap& schemes) {
  std::set<std::string> quantized_classes;
  std::vector<std::string> classes;
  std::map<std::string, std::vector<std::string>> names;
  for (std::size_t i = 0; i < model.modules.size(); ++i) {
    const ModuleInfo& module = model.modules[i];
    const std::string loaded = loaded_class(module);
    if (is_quantized(schemes.at(i))) {
      quantized_classes.insert(loaded);
    } else {
      if (!names.contains(loaded)) classes.push_back(loaded);
      names[loaded].push_back(module.disk_name);
    }
  }
  std::vector<std::string> ignored;
  for (const std::string& loaded : classes) {
    if (quantized_classes.contains(loaded))
      ignored.insert(ignored.end(), names[loaded].begin(), names[loaded].end());
  }
  return ignored;
}

Json quantization_config_json(const ModelDescription& model, const SchemeMap& schemes, const OutputPlan& plan,
                              bool save_compressed) {
  if (plan.quantized.empty() && !schemes.kv_cache_scheme) return nullptr;
  const std::vector<QuantizationScheme> unique = unique_schemes(plan);
  ConfigGroups groups;
  for (const QuantizationScheme& scheme : unique)
    groups.emplace_back("group_" + std::to_string(groups.size()), scheme);
  Json json = Json::object();
  json["config_groups"] = to_json(groups_to_value(groups));
  json["format"] = overall_format(unique);
  json["global_compression_ratio"] = nullptr;
  json["ignore"] = ignored_modules(model, schemes);
  json["kv_cache_scheme"] = nullptr;
  if (schemes.kv_cache_scheme) json["kv_cache_scheme"] = to_json(args_to_value(*schemes.kv_cache_scheme));
  json["quant_method"] = "compressed-tensors";
  json["quantization_status"] = save_compressed ? "compressed" : "frozen";
  json["sparsity_config"] = Json::object();
  json["transform_config"] = Json::object();
  json["version"] = kCompressedTensorsVersion;
  return json;
}

std::string output_config_text(const Json& source, const Json& quantization_config, const OutputPlan& plan,
                               const StorageRule& storage) {
  Json config = source;
  if (!quantization_config.is_null()) config["quantization_config"] = quantization_config;
  if (storage.cast_all) set_dtype(config, storage.model_dtype);
  if (plan.unties_embeddings) {
    config["tie_word_embeddings"] = false;
    if (config.contains("text_config") && config["text_config"].is_object()) {
      config["text_config"]["tie_word_embeddings"] = false;
    }
  }
  const auto replace = Json::error_handler_t::replace;
  const nlohmann::json sorted = nlohmann::json::parse(config.dump(-1, ' ', false, replace));
  return sorted.dump(2, ' ', true, nlohmann::json::error_handler_t::replace);
}

}  // namespace nibble
