// SPDX-License-Identifier: Apache-2.0
#include "model/module_tree.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/json.h"

namespace nibble {
namespace {

using enum ModuleRole;

struct Dims {
  std::int64_t rows = 0, cols = 0;
};

Dims attention_dims(ModuleRole role, const ModelConfig& c) {
  const bool whole = c.row->qk_norm == QkNormKind::kWhole;
  switch (role) {
    case kQuery:
      return {c.query_width(), c.hidden};
    case kKey:
    case kValue:
      return {c.kv_width(), c.hidden};
    case kQkv:
      return {c.query_width() + 2 * c.kv_width(), c.hidden};
    case kAttentionOutput:
      return {c.hidden, c.query_width()};
    case kQueryNorm:
      return {whole ? c.query_width() : c.head_dim, 1};
    case kKeyNorm:
      return {whole ? c.kv_width() : c.head_dim, 1};
    default:
      return {};
  }
}

Dims mlp_dims(ModuleRole role, const ModelConfig& c) {
  switch (role) {
    case kGate:
    case kUp:
      return {c.intermediate, c.hidden};
    case kGateUp:
      return {2 * c.intermediate, c.hidden};
    case kDown:
      return {c.hidden, c.intermediate};
    case kRouter:
      return {c.experts, c.hidden};
    case kExpertGate:
    case kExpertUp:
      return {c.expert_intermediate, c.hidden};
    case kExpertDown:
      return {c.hidden, c.expert_intermediate};
    case kSharedGate:
    case kSharedUp:
      return {c.shared_intermediate, c.hidden};
    case kSharedDown:
      return {c.hidden, c.shared_intermediate};
    case kSharedRouter:
      return {1, c.hidden};
    default:
      return {};
  }
}

Dims outer_dims(ModuleRole role, const ModelConfig& c) {
  switch (role) {
    case kTokenEmbedding:
      return {c.vocab, c.embedding_dim};
    case kPositionEmbedding:
      return {c.max_positions + c.row->position_offset, c.hidden};
    case kTypeEmbedding:
      return {c.type_vocab, c.hidden};
    case kEmbeddingProjection:
      return {c.hidden, c.embedding_dim};
    case kHeadProjection:
      return {c.embedding_dim, c.hidden};
    case kEmbeddingNorm:
    case kAttentionInputNorm:
    case kAttentionOutputNorm:
    case kAttentionResidualNorm:
    case kMlpInputNorm:
    case kMlpOutputNorm:
    case kMlpResidualNorm:
    case kFinalNorm:
      return {c.hidden, 1};
    case kLmHead:
      return {c.vocab, c.embedding_dim};
    case kSpanHead:
      return {c.labels, c.hidden};
    case kPooler:
      return {c.hidden, c.hidden};
    case kClassifier:
      return {c.labels, c.row->causal ? c.embedding_dim : c.hidden};
    default:
      return {};
  }
}

Dims dims_of(ModuleRole role, const ModelConfig& config) {
  for (auto* dims : {attention_dims, mlp_dims, outer_dims}) {
    if (const Dims found = dims(role, config); found.rows > 0) return found;
  }
  return {};
}

bool is_norm(ModuleRole role) {
  switch (role) {
    case kEmbeddingNorm:
    case kAttentionInputNorm:
    case kAttentionOutputNorm:
    case kAttentionResidualNorm:
    case kQueryNorm:
    case kKeyNorm:
    case kMlpInputNorm:
    case kMlpOutputNorm:
    case kMlpResidualNorm:
    case kFinalNorm:
      return true;
    default:
      return false;
  }
}

ModuleKind kind_of(ModuleRole role) {
  switch (role) {
    case kNone:
      return ModuleKind::kOther;
    case kBlock:
      return ModuleKind::kBlock;
    case kAttention:
      return ModuleKind::kAttention;
    case kMlp:
      return ModuleKind::kMlp;
    case kTokenEmbedding:
    case kPositionEmbedding:
    case kTypeEmbedding:
      return ModuleKind::kEmbedding;
    default:
      return is_norm(role) ? ModuleKind::kNorm : ModuleKind::kLinear;
  }
}

int stage_of(ModuleRole role) {
  switch (role) {
    case kQuery:
    case kKey:
    case kValue:
    case kQkv:
      return 0;
    case kAttentionOutput:
      return 1;
    case kGate:
    case kUp:
    case kGateUp:
    case kRouter:
    case kExpertGate:
    case kExpertUp:
    case kSharedGate:
    case kSharedUp:
    case kSharedRouter:
      return 2;
    case kDown:
    case kExpertDown:
    case kSharedDown:
      return 3;
    default:
      return -1;
  }
}

// Block, expert and head numbers that stand for '*', '#' and '%'; -1 outside.
struct Numbers {
  int block = -1, expert = -1, head = -1;
};

class TreeBuilder {
 public:
  TreeBuilder(const ModelConfig& config, const std::function<bool(const ModuleInfo&)>& is_stored)
      : config_(config), is_stored_(is_stored) {}

  std::vector<ModuleInfo> build() {
    ModuleInfo root;
    root.class_name = config_.class_name;
    modules_.push_back(std::move(root));
    expand(config_.row->tree, {});
    return std::move(modules_);
  }

 private:
  // Neighbouring nodes that hold the same number sign are repeated together.
  void expand(std::span<const Node> nodes, const Numbers& numbers) {
    std::size_t i = 0;
    while (i < nodes.size()) {
      const char sign = open_sign(nodes[i], numbers);
      std::size_t end = i + 1;
      while (sign != 0 && end < nodes.size() && open_sign(nodes[end], numbers) == sign &&
             (sign != '%' || nodes[end].path == nodes[i].path)) {
        ++end;
      }
      const std::span<const Node> run = nodes.subspan(i, end - i);
      if (sign == 0) {
        add(nodes[i], numbers);
      } else {
        repeat(run, sign, numbers);
      }
      i = end;
    }
  }

  static char open_sign(const Node& node, const Numbers& numbers) {
    if (numbers.block < 0 && node.path.find('*') != std::string_view::npos) return '*';
    if (numbers.expert < 0 && node.path.find('#') != std::string_view::npos) return '#';
    if (numbers.head < 0 && node.path.find('%') != std::string_view::npos) return '%';
    return 0;
  }

  void repeat(std::span<const Node> run, char sign, Numbers numbers) {
    const std::int64_t count = sign == '*'                      ? config_.layers
                               : sign == '#'                    ? config_.experts
                               : run.front().role == kQueryNorm ? config_.heads
                                                                : config_.kv_heads;
    int& number = sign == '*' ? numbers.block : sign == '#' ? numbers.expert : numbers.head;
    for (number = 0; number < count; ++number) expand(run, numbers);
  }

  void add(const Node& node, const Numbers& numbers) {
    if (node.when != When::kPooler && node.when != When::kPoolerIfStored && !holds(node.when, numbers))
      return;
    ModuleInfo module;
    module.name = strip_base(numbered(node.path, numbers));
    if (module.name.empty()) return;  // the base model is the root itself
    module.disk_name = module.name;
    for (const Rename& rename : config_.row->disk_renames) replace_first(module.disk_name, rename);
    module.class_name = class_name(node.type);
    module.role = node.role;
    module.kind = kind_of(node.role);
    module.block = numbers.block;
    module.expert = numbers.expert;
    module.stage = stage_of(node.role);
    module.transposed = config_.row->transposed && module.class_name == "Conv1D";
    if (module.kind == ModuleKind::kNorm) module.norm_offset = static_cast<float>(config_.row->norm_offset);
    const Dims dims = dims_of(node.role, config_);
    module.rows = dims.rows;
    module.cols = dims.cols;
    if (!pooler_exists(node, module)) return;
    modules_.push_back(std::move(module));
  }

  bool holds(When when, const Numbers& numbers) const {
    const ModelConfig& c = config_;
    const bool sparse = numbers.block >= 0 && c.sparse_layer[static_cast<std::size_t>(numbers.block)];
    switch (when) {
      case When::kAlways:
        return true;
      case When::kQkNorm:
        return c.qk_norm;
      case When::kSerial:
        return !c.parallel_residual;
      case When::kPreNorm:
        return c.pre_norm;
      case When::kPostNorm:
        return !c.pre_norm;
      case When::kFinalNorm:
        return c.final_norm;
      case When::kProjected:
        return c.embedding_dim != c.hidden;
      case When::kDense:
        return !sparse;
      case When::kSparse:
        return sparse;
      case When::kTokenTypes:
        return c.type_vocab > 0;
      case When::kLmHead:
        return c.head == HeadKind::kLm;
      case When::kSpanHead:
        return c.head == HeadKind::kSpan;
      case When::kSequenceHead:
        return c.head == HeadKind::kSequence;
      case When::kPooler:
      case When::kPoolerIfStored:
        return false;
    }
    return false;
  }

  // The module of the dense layer decides for its container and its activation, which own no tensor.
  bool pooler_exists(const Node& node, const ModuleInfo& module) const {
    if (node.when != When::kPooler && node.when != When::kPoolerIfStored) return true;
    if (node.when == When::kPooler && config_.head == HeadKind::kSequence) return true;
    if (config_.head != HeadKind::kNone) return false;
    ModuleInfo dense = module;
    const auto at = dense.name.find("pooler");
    dense.name = dense.disk_name = dense.name.substr(0, at) + "pooler.dense";
    return is_stored_(dense);
  }

  std::string class_name(std::string_view type) const {
    std::string name(type);
    replace_first(name, {"@", config_.row->class_prefix});
    replace_first(name, {"$", config_.activation_class});
    return name;
  }

  std::string strip_base(std::string name) const {
    if (!config_.bare) return name;
    const std::string_view base = config_.row->base_prefix;
    if (name == base) return {};
    return name.starts_with(base) && name[base.size()] == '.' ? name.substr(base.size() + 1) : name;
  }

  static std::string numbered(std::string_view path, const Numbers& numbers) {
    std::string name;
    for (const char c : path) {
      if (c == '*') {
        name += std::to_string(numbers.block);
      } else if (c == '#') {
        name += std::to_string(numbers.expert);
      } else if (c == '%') {
        name += std::to_string(numbers.head);
      } else {
        name += c;
      }
    }
    return name;
  }

 public:
  static void replace_first(std::string& name, const Rename& rename) {
    if (const auto at = name.find(rename.from); at != std::string::npos)
      name.replace(at, rename.from.size(), rename.to);
  }

 private:
  const ModelConfig& config_;
  const std::function<bool(const ModuleInfo&)>& is_stored_;
  std::vector<ModuleInfo> modules_;
};

}  // namespace

std::vector<ModuleInfo> module_tree(const ModelConfig& config,
                                    const std::function<bool(const ModuleInfo&)>& is_stored) {
  return TreeBuilder(config, is_stored).build();
}

std::vector<std::string> stored_name_candidates(const ModelConfig& config, const ModuleInfo& module) {
  std::string legacy = module.disk_name;
  for (const Rename& rename : config.row->legacy_renames) TreeBuilder::replace_first(legacy, rename);
  std::vector<std::string> names;
  const auto add = [&names](std::string name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
  };
  const std::string prefix = std::string(config.row->base_prefix) + ".";
  for (const std::string& name : {module.disk_name, module.name, legacy}) add(name);
  for (const std::string& name : std::vector<std::string>(names)) {
    if (config.bare) {
      add(prefix + name);
    } else if (name.starts_with(prefix)) {
      add(name.substr(prefix.size()));
    }
  }
  return names;
}

bool module_has_bias(const ModelConfig& config, const ModuleInfo& module) {
  switch (module.role) {
    case kQuery:
    case kKey:
    case kValue:
    case kQkv:
      return config.qkv_bias;
    case kAttentionOutput:
      return config.output_bias;
    case kGate:
    case kUp:
    case kGateUp:
    case kDown:
      return config.mlp_bias;
    case kQueryNorm:
    case kKeyNorm:
      return false;
    case kSpanHead:
    case kPooler:
      return true;
    case kClassifier:
      return config.row->classifier_bias;
    default:
      return is_norm(module.role) && config.row->norm_bias && config.norm_affine;
  }
}

Result<ModelConfig> read_checkpoint_config(const Checkpoint& checkpoint) {
  const std::string where = fmt::format("file {}", (checkpoint.path() / "config.json").string());
  if (checkpoint.config().is_null()) {
    return no_input("there is no config.json beside the weights, so the architecture is unknown",
                    "give the folder that holds config.json and the weights")
        .add_context(fmt::format("model {}", checkpoint.path().string()));
  }
  return std::move(read_model_config(checkpoint.config())).at(where);
}

}  // namespace nibble
