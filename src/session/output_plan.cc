// SPDX-License-Identifier: Apache-2.0
#include "session/output_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <unordered_set>

#include "model/module_tree.h"
#include "modify/quantization.h"

namespace nibble {
namespace {

std::vector<std::vector<std::size_t>> units_of(const std::vector<PlannedModule>& quantized) {
  std::vector<std::vector<std::size_t>> units;
  std::map<std::string, std::size_t> index;
  for (std::size_t i = 0; i < quantized.size(); ++i) {
    const auto [entry, is_new] =
        index.try_emplace(global_scale_key(*quantized[i].module, quantized[i].scheme), units.size());
    if (is_new) units.emplace_back();
    units[entry->second].push_back(i);
  }
  return units;
}

bool ends_with_part(const std::string& name, const std::string& tail) {
  return name.size() > tail.size() && name.ends_with(tail) && name[name.size() - tail.size() - 1] == '.';
}

class Planner {
 public:
  Planner(const Checkpoint& checkpoint, const ModelDescription& model, const SchemeMap& schemes,
          const OutputRules& rules)
      : checkpoint_(checkpoint), model_(model), schemes_(schemes), rules_(rules) {}

  Result<OutputPlan> run() {
    plan_.unties_embeddings = has_tied_modules() && (!rules_.tie_word_embeddings || quantizes_embedding());
    for (std::size_t i = 0; i < model_.modules.size(); ++i) TRY(add_module(i));
    for (const std::string& name : model_.unused_tensors) carry(name, name);
    for (const TensorInfo& tensor : checkpoint_.tensors()) {
      if (!used_.contains(tensor.name)) plan_.dropped.push_back(tensor.name);
    }
    plan_.units = units_of(plan_.quantized);
    WritePlan::Options options;
    options.max_shard_bytes = rules_.max_shard_bytes;
    TRY_ASSIGN(plan_.files, WritePlan::make(std::move(tensors_), options));
    return std::move(plan_);
  }

 private:
  bool has_tied_modules() const {
    return std::any_of(model_.modules.begin(), model_.modules.end(),
                       [](const ModuleInfo& module) { return !module.tied_to.empty(); });
  }

  // The head cannot stay tied to an embedding when either of them changes.
  bool quantizes_embedding() const {
    for (std::size_t i = 0; i < model_.modules.size(); ++i) {
      const ModuleRole role = model_.modules[i].role;
      if ((role == ModuleRole::kTokenEmbedding || role == ModuleRole::kLmHead) && schemes_.at(i)) return true;
    }
    return false;
  }

  Status add_module(std::size_t index) {
    const ModuleInfo& module = model_.modules[index];
    const std::string weight = weight_of(module);
    const QuantizationScheme* scheme = schemes_.at(index);
    TRY(add_activations(module, scheme).at(fmt::format("module {}", module.name)));
    if (!weight.empty()) {
      if (scheme && scheme->weights) {
        TRY(add_quantized(module, *scheme, weight).at(fmt::format("module {}", module.name)));
      } else {
        carry(weight, name_of(module, weight, "weight"), &module, false);
      }
    }
    if (!module.bias.empty()) {
      carry(module.bias, name_of(module, module.bias, "bias"), &module, true);
    }
    return {};
  }

  // Empty for a module without a weight, and for a head that stays tied.
  std::string weight_of(const ModuleInfo& module) const {
    if (!module.weight.empty() || module.tied_to.empty() || !plan_.unties_embeddings) return module.weight;
    const ModuleInfo* owner = model_.find(module.tied_to);
    return owner ? owner->weight : std::string();
  }

  // A checkpoint without the usual prefix ("layers.0..." for "model.layers.0...") gets it, and a head that is
  // untied its own name; any other tensor keeps its name.
  std::string name_of(const ModuleInfo& module, const std::string& source, const std::string& suffix) const {
    const std::string full = module.disk_name + "." + suffix;
    return ends_with_part(full, source) || !module.tied_to.empty() ? full : source;
  }

  void carry(const std::string& source, const std::string& name, const ModuleInfo* module = nullptr,
             bool is_bias = false) {
    const TensorInfo* info = checkpoint_.find(source);
    if (!info) return;
    used_.insert(source);
    const DType dtype = rules_.storage.carried(info->dtype);
    CarriedTensor carried{source, name, dtype, module, is_bias};
    if (const SparseLayout* layout = is_bias ? nullptr : sparse_layout(module)) {
      carried.sparse = *layout;
      carried.stored = sparse_stored(*layout, info->shape[0], info->shape[1], dtype);
      for (const StoredTensor& stored : carried.stored)
        tensors_.push_back({module->disk_name + "." + stored.suffix, stored.dtype, stored.shape});
    } else {
      tensors_.push_back({name, dtype, info->shape});
    }
    plan_.carried.push_back(std::move(carried));
  }

  // Null for a module that is not pruned, or is not stored in its own tensor.
  const SparseLayout* sparse_layout(const ModuleInfo* module) const {
    if (module == nullptr || module->weight.empty()) return nullptr;
    const auto found = rules_.sparse.find(module->name);
    return found == rules_.sparse.end() ? nullptr : &found->second;
  }

  // The sparse form takes the place of plain codes; packed ones stay as they are in a bitmask format.
  Status make_sparse(PlannedModule& quantized, const SparseLayout& layout) {
    const auto codes = std::find_if(quantized.stored.begin(), quantized.stored.end(),
                                    [](const StoredTensor& stored) { return stored.suffix == "weight"; });
    const bool is_symmetric = quantized.scheme->weights->symmetric;
    if (codes == quantized.stored.end() || dtype_bytes(codes->dtype) != 1 || !is_symmetric) {
      if (layout.format != SparseFormat::kQuads) return {};
      return usage_error(
          "nibble-24 holds symmetric integer or FP8 weights; a zero has no code of its own otherwise",
          "make the scheme symmetric, or use sparsity_format dense");
    }
    quantized.sparse = layout;
    const bool halves = layout.format == SparseFormat::kQuads && codes->dtype == DType::kI8 &&
                        quantized.scheme->weights->num_bits <= 4;
    quantized.sparse->code_bits = halves ? 4 : 0;
    std::vector<StoredTensor> parts =
        sparse_stored(*quantized.sparse, codes->shape[0], codes->shape[1], codes->dtype);
    quantized.stored.erase(codes);
    quantized.stored.insert(quantized.stored.begin(), parts.begin(), parts.end());
    return {};
  }

  Status add_activations(const ModuleInfo& module, const QuantizationScheme* scheme) {
    PlannedActivations planned{&module, {}};
    const DType dtype = rules_.storage.model_dtype;
    if (scheme && scheme->input_activations) {
      add_stored(*scheme->input_activations, "input", module.cols, dtype, planned.stored);
    }
    if (scheme && scheme->output_activations) {
      add_stored(*scheme->output_activations, "output", module.rows, dtype, planned.stored);
    }
    if (module.kind == ModuleKind::kAttention && schemes_.kv_cache_scheme) {
      TRY_ASSIGN(const ModelConfig config, read_checkpoint_config(checkpoint_));
      for (const char* prefix : {"k", "v"})
        add_stored(*schemes_.kv_cache_scheme, prefix, config.kv_heads, dtype, planned.stored);
    }
    if (planned.stored.empty()) return {};
    for (const StoredTensor& stored : planned.stored)
      tensors_.push_back({planned.tensor_name(stored.suffix), stored.dtype, stored.shape});
    plan_.activations.push_back(std::move(planned));
    return {};
  }

  // `width` is the number of columns, or of heads for attn_head.
  static void add_stored(const QuantizationArgs& args, const std::string& prefix, std::int64_t width,
                         DType dtype, std::vector<StoredTensor>& stored) {
    if (args.dynamic == Dynamic::kTrue) return;
    if (args.strategy == Strategy::kTensorGroup)
      stored.push_back({prefix + "_global_scale", DType::kF32, {1}});
    if (args.dynamic == Dynamic::kLocal) return;
    Shape shape{1};
    if (args.strategy == Strategy::kAttnHead) shape = {width, 1, 1};
    if (args.group_size && *args.group_size > 0) shape = {(width + *args.group_size - 1) / *args.group_size};
    stored.push_back({prefix + "_scale", args.scale_dtype.value_or(dtype), shape});
    if (!args.symmetric) stored.push_back({prefix + "_zero_point", DType::kI8, shape});
  }

  Status add_quantized(const ModuleInfo& module, const QuantizationScheme& scheme,
                       const std::string& source) {
    const TensorInfo* info = checkpoint_.find(source);
    if (!info)
      return bad_data(
          fmt::format("tensor {} is not in the checkpoint; is the model quantized already?", source));
    const auto dtype = rules_.storage.quantizable(info->dtype);
    if (!dtype) {
      return failed(fmt::format("its weight is {}; only F64, F32, F16 and BF16 weights can be quantized",
                                info->stored_as),
                    "add it to ignore");
    }
    PlannedModule quantized{&module, &scheme, CompressionFormat::kDense, *dtype, source, {}};
    if (rules_.save_compressed) {
      TRY_ASSIGN(quantized.format, resolve_format(scheme));
    }
    const SparseLayout* layout = sparse_layout(&module);
    const bool wants_codes = layout != nullptr && layout->format == SparseFormat::kQuads;
    if (wants_codes && quantized.format == CompressionFormat::kPackQuantized)
      quantized.format = CompressionFormat::kIntQuantized;
    TRY_ASSIGN(quantized.stored,
               stored_tensors(*scheme.weights, quantized.format, module.rows, module.cols, quantized.dtype));
    used_.insert(source);
    if (layout != nullptr) TRY(make_sparse(quantized, *layout));
    for (const StoredTensor& stored : quantized.stored) {
      tensors_.push_back({quantized.tensor_name(stored.suffix), stored.dtype, stored.shape});
    }
    plan_.quantized.push_back(std::move(quantized));
    return {};
  }

  const Checkpoint& checkpoint_;
  const ModelDescription& model_;
  const SchemeMap& schemes_;
  const OutputRules& rules_;
  OutputPlan plan_;
  std::vector<PlannedTensor> tensors_;
  std::unordered_set<std::string> used_;
};

}  // namespace

std::uint64_t PlannedModule::bytes() const {
  std::uint64_t total = 0;
  for (const StoredTensor& tensor : stored) total += tensor.bytes();
  return total;
}

std::vector<std::string> CarriedTensor::names() const {
  if (stored.empty()) return {name};
  std::vector<std::string> names;
  for (const StoredTensor& tensor : stored) names.push_back(module->disk_name + "." + tensor.suffix);
  return names;
}

Result<OutputPlan> plan_output(const Checkpoint& checkpoint, const ModelDescription& model,
                               const SchemeMap& schemes, const OutputRules& rules) {
  return Planner(checkpoint, model, schemes, rules).run();
}

}  // namespace nibble
