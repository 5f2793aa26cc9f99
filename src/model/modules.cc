// SPDX-License-Identifier: Apache-2.0
#include "model/modules.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "base/json.h"
#include "base/regex.h"
#include "base/suggest.h"
#include "model/module_tree.h"
#include "model/structure.h"

namespace nibble {
namespace {

// Buffers that old versions of the reference stored and that follow from the configuration.
bool is_known_leftover(std::string_view name) {
  for (const std::string_view end :
       {".inv_freq", ".masked_bias", ".attn.bias", ".attention.bias", ".position_ids"}) {
    if (name.ends_with(end) || name == end.substr(1)) return true;
  }
  return false;
}

std::string_view owner_of(std::string_view tensor) {
  return tensor.substr(0, tensor.rfind('.'));
}

// Finds the tensors of modules among the names of a checkpoint.
class TensorFinder {
 public:
  explicit TensorFinder(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {
    for (const TensorInfo& tensor : checkpoint.tensors()) owners_.emplace(owner_of(tensor.name));
  }

  bool owns_tensors(const std::string& base) const { return owners_.contains(base); }

  // The name under which the tensors of a module are stored, or empty.
  std::string stored_base(const ModelConfig& config, const ModuleInfo& module) const {
    for (const std::string& base : stored_name_candidates(config, module)) {
      if (owners_.contains(base)) return base;
    }
    return {};
  }

  // base.weight, or the name that BERT's first checkpoints used.
  std::string parameter(const std::string& base, std::string_view name, std::string_view old_name) const {
    std::string found = fmt::format("{}.{}", base, name);
    std::string old_found = fmt::format("{}.{}", base, old_name);
    return checkpoint_.find(found) == nullptr && checkpoint_.find(old_found) != nullptr ? old_found : found;
  }

 private:
  const Checkpoint& checkpoint_;
  std::unordered_set<std::string> owners_;
};

class Describer {
 public:
  Describer(const Checkpoint& checkpoint, const ModelConfig& config)
      : checkpoint_(checkpoint), config_(config), finder_(checkpoint) {}

  // Every violation is kept; the description is only good when there is none.
  void run() {
    description_.model_type = config_.row->model_type;
    description_.architecture = config_.class_name;
    description_.no_split_module = config_.row->no_split_module;
    description_.num_blocks = static_cast<int>(config_.layers);
    description_.head_dim = config_.head_dim;
    description_.qkv_by_head = config_.row->qkv == QkvLayout::kPerHead;
    description_.up_passes_factors = config_.row->glu || config_.activation == Activation::kRelu;
    description_.modules = module_tree(
        config_, [this](const ModuleInfo& module) { return !finder_.stored_base(config_, module).empty(); });
    for (ModuleInfo& module : description_.modules) {
      if (module.rows > 0) place(module);
    }
    tie();
    collect_unused();
  }

  FlawedDescription with_flaws() && { return {std::move(description_), std::move(violations_)}; }
  Result<ModelDescription> result() && {
    if (violations_.empty()) return std::move(description_);
    // A wrong shape says more than an absence.
    for (const StructureViolation& violation : violations_) {
      if (violation.kind != StructureViolation::Kind::kMissing) return error_of(violation);
    }
    return missing_error();
  }

 private:
  using Kind = StructureViolation::Kind;

  void violate(Kind kind, const std::string& tensor, const ModuleInfo& module, const Shape& wanted) {
    const TensorInfo* stored = checkpoint_.find(tensor);
    violations_.push_back({.kind = kind,
                           .module = module.name,
                           .tensor = tensor,
                           .expected = kind == Kind::kNotExpected ? "no such tensor" : to_string(wanted),
                           .found = stored == nullptr ? "nothing" : to_string(stored->shape),
                           .file = stored == nullptr ? std::string() : stored->file});
  }

  Shape stored_shape(const ModuleInfo& module) const {
    if (module.kind == ModuleKind::kNorm) return {module.rows};
    return module.transposed ? Shape{module.cols, module.rows} : Shape{module.rows, module.cols};
  }

  void place(ModuleInfo& module) {
    const std::string base = finder_.stored_base(config_, module);
    if (base.empty()) {
      const bool may_tie = module.role == ModuleRole::kLmHead || module.role == ModuleRole::kTokenEmbedding;
      if (may_tie && config_.tie_embeddings) return;
      const bool has_parameters = module.kind != ModuleKind::kNorm || config_.norm_affine;
      if (has_parameters) violate(Kind::kMissing, module.disk_name + ".weight", module, stored_shape(module));
      return;
    }
    used_.insert(base);
    module.weight = finder_.parameter(base, "weight", "gamma");
    check_shape(module.weight, stored_shape(module), module,
                /*may_be_packed=*/module.kind != ModuleKind::kNorm);

    const std::string bias = finder_.parameter(base, "bias", "beta");
    if (module_has_bias(config_, module)) {
      module.bias = bias;
      check_shape(bias, {module.rows}, module, /*may_be_packed=*/false);
    } else if (checkpoint_.find(bias) != nullptr) {
      violate(Kind::kNotExpected, bias, module, {});
    }
  }

  void check_shape(const std::string& name, const Shape& wanted, const ModuleInfo& module,
                   bool may_be_packed) {
    const TensorInfo* tensor = checkpoint_.find(name);
    if (tensor == nullptr) {
      // The codec checks the parts of a packed weight, structure_violations() what they stand for.
      if (!may_be_packed) violate(Kind::kMissing, name, module, wanted);
    } else if (tensor->shape != wanted) {
      violate(Kind::kShape, name, module, wanted);
    }
  }

  Error error_of(const StructureViolation& violation) const {
    if (violation.kind == Kind::kNotExpected) {
      return bad_data(fmt::format("tensor {} exists, but by its configuration {} has no bias",
                                  violation.tensor, violation.module))
          .add_context(fmt::format("model {}", checkpoint_.path().string()));
    }
    return bad_data(fmt::format("tensor {} has shape {}, module {} needs {}", violation.tensor,
                                violation.found, violation.module, violation.expected),
                    "config.json and the weights do not belong together")
        .add_context(fmt::format("file {}", violation.file));
  }

  // The head shares the weight of the embedding when it has none of its own, or the other way round.
  void tie() {
    ModuleInfo* embedding = nullptr;
    ModuleInfo* head = nullptr;
    for (ModuleInfo& module : description_.modules) {
      if (module.role == ModuleRole::kTokenEmbedding) embedding = &module;
      if (module.role == ModuleRole::kLmHead) head = &module;
    }
    if (!config_.tie_embeddings || embedding == nullptr) return;
    if (embedding->weight.empty() && (head == nullptr || head->weight.empty())) {
      violate(Kind::kMissing, embedding->disk_name + ".weight", *embedding, stored_shape(*embedding));
    } else if (embedding->weight.empty()) {
      embedding->tied_to = head->name;
    } else if (head != nullptr && head->weight.empty()) {
      head->tied_to = embedding->name;
      description_.tied_embeddings = true;
    }
  }

  Error missing_error() const {
    std::vector<std::string> names;
    for (const TensorInfo& tensor : checkpoint_.tensors()) names.push_back(tensor.name);
    const std::size_t missing = violations_.size();
    std::string list = violations_.front().tensor;
    for (std::size_t i = 1; i < std::min<std::size_t>(missing, 5); ++i) list += ", " + violations_[i].tensor;
    const std::string count = missing == 1 ? "a tensor is" : fmt::format("{} tensors are", missing);
    std::string hint = did_you_mean(violations_.front().tensor, names);
    if (hint.empty())
      hint =
          fmt::format("this is what a {} is made of; the checkpoint may be incomplete", config_.class_name);
    return bad_data(fmt::format("{} missing: {}{}", count, list, missing > 5 ? ", ..." : ""), std::move(hint))
        .add_context(fmt::format("model {}", checkpoint_.path().string()));
  }

  void collect_unused() {
    std::unordered_set<std::string> names;
    for (const ModuleInfo& module : description_.modules) names.insert(module.disk_name);
    for (const TensorInfo& tensor : checkpoint_.tensors()) {
      const std::string owner(owner_of(tensor.name));
      if (used_.contains(owner) || names.contains(owner) || is_known_leftover(tensor.name)) continue;
      description_.unused_tensors.push_back(tensor.name);
    }
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  TensorFinder finder_;
  ModelDescription description_;
  std::vector<StructureViolation> violations_;
  std::unordered_set<std::string> used_;
};

// The names one part below `parent`.
std::vector<std::string> children_of(const ModelDescription& description, const std::string& parent) {
  std::vector<std::string> children;
  const std::string prefix = parent.empty() ? "" : parent + ".";
  for (const ModuleInfo& module : description.modules) {
    if (module.name.size() <= prefix.size() || !module.name.starts_with(prefix)) continue;
    const std::string rest = module.name.substr(prefix.size());
    if (rest.find('.') == std::string::npos) children.push_back(rest);
  }
  return children;
}

}  // namespace

const ModuleInfo* ModelDescription::find(std::string_view name) const {
  for (const ModuleInfo& module : modules) {
    if (module.name == name) return &module;
  }
  return nullptr;
}

Result<ModelDescription> describe_model(const Checkpoint& checkpoint) {
  TRY_ASSIGN(const ModelConfig config, read_checkpoint_config(checkpoint));
  Describer describer(checkpoint, config);
  describer.run();
  return std::move(describer).result();
}

Result<FlawedDescription> describe_with_flaws(const Checkpoint& checkpoint) {
  TRY_ASSIGN(const ModelConfig config, read_checkpoint_config(checkpoint));
  Describer describer(checkpoint, config);
  describer.run();
  return std::move(describer).with_flaws();
}

Result<const ModuleInfo*> module_at(const ModelDescription& description, std::string_view path) {
  std::string walked;
  std::string_view rest = path;
  while (!rest.empty()) {
    const auto dot = rest.find('.');
    const std::string part(rest.substr(0, dot));
    const std::string next = walked.empty() ? part : walked + "." + part;
    if (description.find(next) == nullptr) {
      const std::vector<std::string> children = children_of(description, walked);
      std::string hint = did_you_mean(part, children);
      if (hint.empty() && !children.empty()) hint = "it has " + join_or(children);
      return usage_error(fmt::format("module {}: {} has no part \"{}\"", path,
                                     walked.empty() ? description.architecture : walked, part),
                         std::move(hint));
    }
    walked = next;
    rest = dot == std::string_view::npos ? std::string_view() : rest.substr(dot + 1);
  }
  return description.find(walked);
}

Result<const ModuleInfo*> find_module(const ModelDescription& description, std::string_view pattern) {
  if (pattern.starts_with("re:")) pattern.remove_prefix(3);
  TRY_ASSIGN(const Regex regex, Regex::compile(pattern));
  for (const ModuleInfo& module : description.modules) {
    TRY_ASSIGN(const bool found, regex.matches_prefix(module.name));
    if (found) return &module;
  }
  return static_cast<const ModuleInfo*>(nullptr);
}

std::vector<const ModuleInfo*> prunable_layers(const ModelDescription& description) {
  std::vector<const ModuleInfo*> layers;
  for (const ModuleInfo& module : description.modules) {
    if (module.kind == ModuleKind::kLinear) layers.push_back(&module);
  }
  return layers;
}

SequentialTargets sequential_targets(const ModelDescription& description,
                                     std::vector<std::string> user_targets) {
  if (!user_targets.empty()) return {std::move(user_targets), SequentialTargetRule::kUser};
  for (const ModuleInfo& module : description.modules) {
    if (module.class_name == description.no_split_module) {
      return {{description.no_split_module}, SequentialTargetRule::kArchitecture};
    }
  }
  for (const ModuleInfo& module : description.modules) {
    if (module.kind == ModuleKind::kBlock) return {{module.class_name}, SequentialTargetRule::kDetected};
  }
  return {{}, SequentialTargetRule::kDetected};
}

}  // namespace nibble
