// SPDX-License-Identifier: Apache-2.0
#include "model/config.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "base/json.h"
#include "base/suggest.h"

namespace nibble {
namespace {

constexpr std::int64_t kMaxLayers = 4096;
constexpr std::int64_t kMaxHeads = 65536;
constexpr std::int64_t kMaxExperts = 65536;
constexpr std::int64_t kMaxRepeated = std::int64_t{1}
                                      << 20;  // experts, or norms of single heads, over all layers
constexpr std::int64_t kMaxSize = std::int64_t{1} << 24;  // widths, vocabularies, positions

constexpr std::array<ActivationName, 14> kActivations = {{
    {"silu", "SiLUActivation", Activation::kSilu},
    {"swish", "SiLU", Activation::kSilu},
    {"gelu", "GELUActivation", Activation::kGeluErf},
    {"gelu_python", "GELUActivation", Activation::kGeluErf},
    {"gelu_new", "NewGELUActivation", Activation::kGeluTanh},
    {"gelu_fast", "FastGELUActivation", Activation::kGeluTanh},
    {"gelu_accurate", "AccurateGELUActivation", Activation::kGeluTanh},
    {"gelu_pytorch_tanh", "GELUTanh", Activation::kGeluTanh},
    {"gelu_python_tanh", "GELUTanh", Activation::kGeluTanh},
    {"quick_gelu", "QuickGELUActivation", Activation::kQuickGelu},
    {"relu", "ReLU", Activation::kRelu},
    {"relu2", "ReLUSquaredActivation", Activation::kRelu2},
    {"relu_squared", "ReLUSquaredActivation", Activation::kRelu2},
    {"tanh", "Tanh", Activation::kTanh},
}};

Error wrong_value(std::string_view key, std::string_view found, std::string_view allowed) {
  return bad_data(fmt::format("config key {} is {}, it must be {}", key, found, allowed));
}

Result<std::int64_t> resolve_fallback(const IntKey& key, const ModelConfig& model) {
  switch (key.fallback) {
    case kRequired:
      return bad_data(fmt::format("config key {} is missing", key.key));
    case kSameAsHeads:
      return model.heads;
    case kSameAsHidden:
      return model.hidden;
    case kFourTimesHidden:
      return 4 * model.hidden;
    case kHiddenPerHead: {
      if (model.hidden % model.heads != 0) {
        return bad_data(
            fmt::format("hidden size {} is not divisible by {} attention heads and config names no head_dim",
                        model.hidden, model.heads));
      }
      return model.hidden / model.heads;
    }
    default:
      return key.fallback;
  }
}

Result<std::int64_t> int_at(const Json& config, const IntKey& key, const ModelConfig& model,
                            std::int64_t least, std::int64_t most) {
  std::string_view name = key.key;
  const Json* value = find_key(config, key.key, &name);
  if (value == nullptr) {
    if (key.null_is_off && config.contains(std::string(key.key))) return std::int64_t{0};
    return resolve_fallback(key, model);
  }
  // Some writers store whole numbers as 32000.0.
  const bool whole = value->is_number_integer() ||
                     (value->is_number_float() && value->get<double>() == std::floor(value->get<double>()));
  const double number = value->is_number() ? value->get<double>() : 0;
  if (!whole || number < static_cast<double>(least) || number > static_cast<double>(most)) {
    return wrong_value(name, value->dump(), fmt::format("a whole number from {} to {}", least, most));
  }
  return static_cast<std::int64_t>(number);
}

Result<bool> flag_at(const Json& config, const Flag& flag) {
  const Json* value = flag.key.empty() ? nullptr : find_key(config, flag.key);
  if (value == nullptr) return flag.fallback;
  if (!value->is_boolean()) return wrong_value(flag.key, value->dump(), "true or false");
  return value->get<bool>();
}

Status read_sizes(const Json& config, const ConfigKeys& keys, ModelConfig& model) {
  TRY_ASSIGN(model.hidden, int_at(config, keys.hidden, model, 1, kMaxSize));
  TRY_ASSIGN(model.layers, int_at(config, keys.layers, model, 1, kMaxLayers));
  TRY_ASSIGN(model.heads, int_at(config, keys.heads, model, 1, kMaxHeads));
  TRY_ASSIGN(model.kv_heads, int_at(config, keys.kv_heads, model, 1, kMaxHeads));
  if (model.heads % model.kv_heads != 0) {
    return bad_data(
        fmt::format("config key {} is {}: {} attention heads cannot be shared by {} key/value heads",
                    keys.kv_heads.key, model.kv_heads, model.heads, model.kv_heads));
  }
  TRY_ASSIGN(model.head_dim, int_at(config, keys.head_dim, model, 1, kMaxSize));
  if (model.head_dim > kMaxSize / model.heads) {
    return wrong_value(keys.head_dim.key, std::to_string(model.head_dim),
                       "smaller: heads x head_dim is too large");
  }
  TRY_ASSIGN(model.intermediate, int_at(config, keys.intermediate, model, 1, kMaxSize));
  TRY_ASSIGN(model.vocab, int_at(config, keys.vocab, model, 1, kMaxSize));
  TRY_ASSIGN(model.max_positions, int_at(config, keys.max_positions, model, 1, kMaxSize));
  TRY_ASSIGN(model.embedding_dim, int_at(config, keys.embedding_dim, model, 1, kMaxSize));
  TRY_ASSIGN(model.type_vocab, int_at(config, keys.type_vocab, model, 0, kMaxSize));
  TRY_ASSIGN(model.pad_token, int_at(config, keys.pad_token, model, -1, kMaxSize));
  return {};
}

Status read_mixture(const Json& config, const Architecture& row, ModelConfig& model) {
  const ConfigKeys& keys = row.keys;
  model.sparse_layer.assign(static_cast<std::size_t>(model.layers), false);
  if (keys.experts.key.empty()) return {};
  TRY_ASSIGN(model.experts, int_at(config, keys.experts, model, 0, kMaxExperts));
  TRY_ASSIGN(model.experts_per_token, int_at(config, keys.experts_per_token, model, 1, kMaxExperts));
  if (model.experts > 0 && model.experts_per_token > model.experts) {
    return wrong_value(keys.experts_per_token.key, std::to_string(model.experts_per_token),
                       fmt::format("at most the {} experts", model.experts));
  }
  TRY_ASSIGN(model.expert_intermediate, int_at(config, keys.expert_intermediate, model, 1, kMaxSize));
  TRY_ASSIGN(model.shared_intermediate, int_at(config, keys.shared_intermediate, model, 1, kMaxSize));
  if (model.experts * model.layers > kMaxRepeated) {
    return wrong_value(
        keys.experts.key, std::to_string(model.experts),
        fmt::format("such that {} layers have at most {} experts", model.layers, kMaxRepeated));
  }
  TRY_ASSIGN(const std::int64_t step, int_at(config, keys.sparse_step, model, 1, kMaxLayers));
  if (row.routing_norm == RoutingNorm::kFromConfig) {
    TRY_ASSIGN(model.renormalise_routing, flag_at(config, {"norm_topk_prob", false}));
  }
  for (std::int64_t layer = 0; layer < model.layers; ++layer) {
    model.sparse_layer[static_cast<std::size_t>(layer)] = model.experts > 0 && (layer + 1) % step == 0;
  }
  if (const Json* dense = find_key(config, "mlp_only_layers"); dense != nullptr) {
    if (!dense->is_array()) return wrong_value("mlp_only_layers", dense->dump(), "a list of layer numbers");
    for (const Json& entry : *dense) {
      if (!entry.is_number_integer())
        return wrong_value("mlp_only_layers", entry.dump(), "a list of layer numbers");
      const auto layer = entry.get<std::int64_t>();
      if (layer >= 0 && layer < model.layers) model.sparse_layer[static_cast<std::size_t>(layer)] = false;
    }
  }
  return {};
}

// True where a layer has a sliding window.
Result<std::vector<bool>> sliding_layers(const Json& config, const Architecture& row,
                                         const ModelConfig& model) {
  const auto count = static_cast<std::size_t>(model.layers);
  std::vector<bool> sliding(count, false);
  if (row.window == WindowRule::kNone) return sliding;
  TRY_ASSIGN(const bool used, flag_at(config, {"use_sliding_window", false}));
  const bool by_flag = row.window == WindowRule::kFromLayer || row.window == WindowRule::kEvenBefore ||
                       row.window == WindowRule::kAllIfUsed;
  if (by_flag && !used) return sliding;
  if (const Json* types = find_key(config, "layer_types"); types != nullptr) {
    if (!types->is_array() || types->size() < count) {
      return wrong_value("layer_types", types->dump(), fmt::format("a list of {} layer types", count));
    }
    for (std::size_t i = 0; i < count; ++i) {
      const Json& type = (*types)[i];
      if (type != "sliding_attention" && type != "full_attention") {
        return wrong_value(fmt::format("layer_types[{}]", i), type.dump(),
                           "full_attention or sliding_attention");
      }
      sliding[i] = type == "sliding_attention";
    }
    return sliding;
  }
  TRY_ASSIGN(const std::int64_t from, int_at(config, {"max_window_layers", 28}, model, 0, kMaxSize));
  TRY_ASSIGN(const std::int64_t every,
             int_at(config, {"sliding_window_pattern|_sliding_window_pattern", 6}, model, 1, kMaxLayers));
  for (std::int64_t i = 0; i < model.layers; ++i) {
    bool on = false;
    switch (row.window) {
      case WindowRule::kNone:
        break;
      case WindowRule::kAllLayers:
        on = true;
        break;
      case WindowRule::kFromLayer:
        on = used && i >= from;
        break;
      case WindowRule::kEvenBefore:
        on = used && i % 2 == 0 && i < from;
        break;
      case WindowRule::kAllIfUsed:
        on = used;
        break;
      case WindowRule::kAlternate:
        on = i % 2 == 0;
        break;
      case WindowRule::kAllButEvery:
        on = (i + 1) % every != 0;
        break;
    }
    sliding[static_cast<std::size_t>(i)] = on;
  }
  return sliding;
}

Status read_attention(const Json& config, const Architecture& row, ModelConfig& model) {
  TRY_ASSIGN(const std::vector<bool> sliding, sliding_layers(config, row, model));
  TRY_ASSIGN(const std::int64_t window, int_at(config, row.keys.window, model, 0, kMaxSize));
  TRY_ASSIGN(const double query_scalar, number_at(config, row.keys.query_scalar));
  TRY_ASSIGN(const bool scaled, flag_at(config, row.scale_attention));
  TRY_ASSIGN(const bool by_layer, flag_at(config, row.scale_by_layer));
  const double base =
      scaled ? 1.0 / std::sqrt(query_scalar > 0 ? query_scalar : static_cast<double>(model.head_dim)) : 1;
  for (std::int64_t i = 0; i < model.layers; ++i) {
    const bool local = sliding[static_cast<std::size_t>(i)];
    model.window.push_back(local ? window : 0);
    model.attention_scale.push_back(by_layer ? base / static_cast<double>(i + 1) : base);
    model.rope_of_layer.push_back(local && !row.keys.rope_local_theta.key.empty() ? 1 : 0);
  }
  TRY_ASSIGN(model.attention_softcap, number_at(config, row.keys.attention_softcap));
  TRY_ASSIGN(model.logit_softcap, number_at(config, row.keys.logit_softcap));
  TRY_ASSIGN(const bool both_ways, flag_at(config, row.bidirectional));
  if (both_ways) {
    return bad_data(
        "config key use_bidirectional_attention is true: this family is run as a causal model only");
  }
  model.causal = row.causal;
  return {};
}

Status read_traits(const Json& config, const Architecture& row, ModelConfig& model) {
  TRY_ASSIGN(model.qkv_bias, flag_at(config, row.qkv_bias));
  TRY_ASSIGN(model.output_bias, flag_at(config, row.output_bias));
  TRY_ASSIGN(model.mlp_bias, flag_at(config, row.mlp_bias));
  TRY_ASSIGN(model.norm_affine, flag_at(config, row.norm_affine));
  TRY_ASSIGN(const bool qk_norm, flag_at(config, row.use_qk_norm));
  model.qk_norm = qk_norm && row.qk_norm != QkNormKind::kNone;
  if (model.qk_norm && row.qk_norm == QkNormKind::kPerHeadOwn && model.heads * model.layers > kMaxRepeated) {
    return wrong_value(row.keys.heads.key, std::to_string(model.heads),
                       fmt::format("such that {} layers have at most {} heads", model.layers, kMaxRepeated));
  }
  TRY_ASSIGN(model.parallel_residual, flag_at(config, row.parallel_residual));
  TRY_ASSIGN(model.pre_norm, flag_at(config, row.pre_norm));
  TRY_ASSIGN(const bool removed, flag_at(config, row.remove_final_norm));
  model.final_norm = model.pre_norm && !removed;
  TRY_ASSIGN(model.norm_eps, number_at(config, row.keys.norm_eps));
  if (!(model.norm_eps > 0) || model.norm_eps > 1) {
    return wrong_value(row.keys.norm_eps.key, fmt::format("{}", model.norm_eps), "a small positive number");
  }
  model.embedding_scale = row.scale_embeddings ? std::sqrt(static_cast<double>(model.hidden)) : 1;

  model.activation_name = row.keys.activation_fallback;
  if (const Json* value = find_key(config, row.keys.activation); value != nullptr) {
    if (!value->is_string())
      return wrong_value(row.keys.activation, value->dump(), "the name of an activation function");
    model.activation_name = value->get<std::string>();
  }
  TRY_ASSIGN(const ActivationName activation, find_activation(model.activation_name, row.keys.activation));
  model.activation = activation.kind;
  model.activation_class = activation.class_name;
  return {};
}

// The number of labels: id2label, else num_labels, else 2 (the reference's default).
Result<std::int64_t> read_labels(const Json& config, const ModelConfig& model) {
  if (const Json* names = find_key(config, "id2label");
      names != nullptr && names->is_object() && !names->empty()) {
    return static_cast<std::int64_t>(names->size());
  }
  return int_at(config, {"num_labels", 2}, model, 1, kMaxSize);
}

Error unknown_architecture(std::string_view key, const std::string& found) {
  std::vector<std::string> names;
  for (const Architecture& row : architectures()) {
    if (key == "model_type") {
      names.emplace_back(row.model_type);
    } else {
      for (const HeadClass& head : row.classes) names.emplace_back(head.name);
    }
  }
  std::string hint = did_you_mean(found, names);
  if (hint.empty() && key == "model_type") hint = "supported: " + join_or(names);
  return bad_data(
      fmt::format("config key {} is \"{}\", an architecture that is not in the table", key, found),
      std::move(hint));
}

// The row and the class, from model_type and architectures; either may be absent.
Status choose_row(const Json& config, ModelConfig& model) {
  TRY_ASSIGN(const std::string model_type, json_string_or(config, "model_type", ""));
  std::string class_name;
  if (const Json* list = find_key(config, "architectures"); list != nullptr) {
    if (!list->is_array() || (!list->empty() && !list->front().is_string())) {
      return wrong_value("architectures", list->dump(), "a list of class names");
    }
    if (!list->empty()) class_name = list->front().get<std::string>();
  }
  if (model_type.empty() && class_name.empty()) {
    return bad_data("config has neither model_type nor architectures, so the kind of model is unknown");
  }
  model.row = model_type.empty() ? find_architecture_of_class(class_name) : find_architecture(model_type);
  if (model.row == nullptr) {
    return model_type.empty() ? unknown_architecture("architectures", class_name)
                              : unknown_architecture("model_type", model_type);
  }
  if (class_name.empty()) class_name = model.row->classes.front().name;
  std::vector<std::string> known;
  for (const HeadClass& head : model.row->classes) {
    known.emplace_back(head.name);
    if (head.name != class_name) continue;
    model.class_name = class_name;
    model.head = head.kind;
    return {};
  }
  return bad_data(fmt::format("config key architectures is \"{}\"; for model_type \"{}\" it may be {}",
                              class_name, model.row->model_type, join_or(known)));
}

bool is_base_class(const ModelConfig& model) {
  for (const Node& node : model.row->tree) {
    if (node.path != model.row->base_prefix) continue;
    std::string type(node.type);
    if (const auto at = type.find('@'); at != std::string::npos) type.replace(at, 1, model.row->class_prefix);
    return type == model.class_name;
  }
  return false;
}

}  // namespace

const Json* find_key(const Json& config, std::string_view alternatives, std::string_view* found) {
  while (!alternatives.empty()) {
    const auto bar = alternatives.find('|');
    const std::string_view key = alternatives.substr(0, bar);
    const auto at = config.find(key);
    if (at != config.end() && !at->is_null()) {
      if (found != nullptr) *found = key;
      return &*at;
    }
    if (bar == std::string_view::npos) break;
    alternatives.remove_prefix(bar + 1);
  }
  return nullptr;
}

Result<double> number_at(const Json& config, const NumberKey& key) {
  std::string_view name = key.key;
  const Json* value = key.key.empty() ? nullptr : find_key(config, key.key, &name);
  if (value == nullptr) {
    return key.null_is_off && config.contains(std::string(key.key)) ? 0.0 : key.fallback;
  }
  if (!value->is_number() || !std::isfinite(value->get<double>()))
    return wrong_value(name, value->dump(), "a number");
  return value->get<double>();
}

Result<ActivationName> find_activation(std::string_view name, std::string_view key) {
  std::vector<std::string> names;
  for (const ActivationName& entry : kActivations) {
    if (entry.name == name) return entry;
    names.emplace_back(entry.name);
  }
  return bad_data(
      fmt::format("config key {} is \"{}\"; known activation functions are {}", key, name, join_or(names)),
      did_you_mean(name, names));
}

Result<ModelConfig> read_model_config(const Json& document) {
  if (!document.is_object()) {
    return bad_data(
        fmt::format("the configuration is of type {}, it must be a JSON object", document.type_name()));
  }
  ModelConfig model;
  TRY(choose_row(document, model));
  const Architecture& row = *model.row;
  const Json* inner = row.text_config.empty() ? &document : find_key(document, row.text_config);
  const Json empty = Json::object();
  if (inner == nullptr) inner = &empty;
  if (!inner->is_object()) return wrong_value(row.text_config, inner->dump(), "an object");
  const Json& config = *inner;

  TRY(read_sizes(config, row.keys, model));
  TRY(read_mixture(config, row, model));
  TRY(read_attention(config, row, model));
  TRY(read_traits(config, row, model));
  TRY_ASSIGN(model.labels, read_labels(document, model));
  TRY_ASSIGN(model.tie_embeddings, flag_at(document, {"tie_word_embeddings", row.tie_fallback}));
  model.bare = is_base_class(model);
  if (row.positions == PositionRule::kRotary) {
    TRY_ASSIGN(model.ropes, read_rope(config, row, model));
  }
  return model;
}

}  // namespace nibble
