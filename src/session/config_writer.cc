// SPDX-License-Identifier: Apache-2.0
#include "session/config_writer.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/json.h"

namespace nibble {
namespace {

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

namespace {

// What sparse tensors stand for whole models: targets are the modules, as on disk.
void describe_sparsity(const OutputPlan& plan, QuantizationConfig& config) {
  std::int64_t weights = 0, values = 0;
  bool is_two_four = true;
  const auto add = [&](const ModuleInfo& module, const SparseLayout& layout) {
    config.sparsity_format = std::string(to_string(layout.format));
    config.sparsity_targets.push_back(module.disk_name);
    weights += module.rows * module.cols;
    values += layout.stored_values.value_or(module.rows * module.cols / 2);
    is_two_four &= layout.format != SparseFormat::kBitmask;
  };
  for (const PlannedModule& quantized : plan.quantized) {
    if (quantized.sparse) add(*quantized.module, *quantized.sparse);
  }
  for (const CarriedTensor& carried : plan.carried) {
    if (carried.sparse) add(*carried.module, *carried.sparse);
  }
  if (weights == 0) return;
  config.global_sparsity = 1 - static_cast<double>(values) / static_cast<double>(weights);
  if (is_two_four) config.sparsity_structure = "2:4";
}

}  // namespace

QuantizationConfig output_quantization(const ModelDescription& model, const SchemeMap& schemes,
                                       const OutputPlan& plan, bool save_compressed) {
  QuantizationConfig config;
  const std::vector<QuantizationScheme> unique = unique_schemes(plan);
  for (const QuantizationScheme& scheme : unique) {
    config.groups.emplace_back("group_" + std::to_string(config.groups.size()), scheme);
  }
  config.format = overall_format(unique);
  config.status = save_compressed ? "compressed" : "frozen";
  config.ignore = ignored_modules(model, schemes);
  config.kv_cache_scheme = schemes.kv_cache_scheme;
  describe_sparsity(plan, config);
  return config;
}

std::string output_config_text(const Json& source, const QuantizationConfig& quantization,
                               const OutputPlan& plan, const StorageRule& storage) {
  Json config = source;
  if (storage.cast_all) set_dtype(config, storage.model_dtype);
  if (plan.unties_embeddings) {
    config["tie_word_embeddings"] = false;
    if (config.contains("text_config") && config["text_config"].is_object()) {
      config["text_config"]["tie_word_embeddings"] = false;
    }
  }
  return config_text(config, quantization.is_empty() ? nullptr : &quantization);
}

}  // namespace nibble
