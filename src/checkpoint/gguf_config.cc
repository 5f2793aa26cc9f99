// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/gguf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "base/json.h"

namespace nibble {
namespace {

constexpr std::uint32_t kHasRope = kGgufLlama | kGgufMixtral | kGgufQwen2 | kGgufQwen3 | kGgufQwen2Moe |
                                   kGgufQwen3Moe | kGgufGemma | kGgufGemma2 | kGgufGemma3 | kGgufPhi3 |
                                   kGgufOlmo2 | kGgufStarcoder2 | kGgufStableLm | kGgufGptNeox;
constexpr std::uint32_t kHasHeadDim = kHasRope & ~std::uint32_t{kGgufGptNeox};
constexpr double kDefaultRopeTheta = 10000.0;  // llama.cpp's, where the key is absent

// The shortest decimal that gives the same float: 1e-05, not 9.999999747378752e-06.
double shortest(float number) {
  return std::stod(fmt::format("{}", number));
}

double readable_number(const GgufValue& value, double number) {
  return value.type == GgufValueType::kF32 ? shortest(static_cast<float>(number)) : number;
}

class ConfigMaker {
 public:
  ConfigMaker(const GgufFile& file, const GgufArchitecture& architecture, const GgufTensorSource& tensors)
      : file_(file), architecture_(architecture), tensors_(tensors) {}

  Result<Json> make() {
    config_["model_type"] = architecture_.model_type;
    config_["architectures"] = Json::array({architecture_.class_name});
    for (const GgufConstantRow& row : gguf_constant_rows()) {
      if (is(row.families)) config_[std::string(row.hf)] = Json::parse(row.json);
    }
    TRY(copy_keys());
    TRY(add_sizes());
    TRY(add_rope());
    TRY(add_traits());
    TRY(add_experts());
    TRY(add_tokens());
    return std::move(config_);
  }

 private:
  bool is(std::uint32_t families) const { return (architecture_.family & families) != 0; }
  std::string key(std::string_view name) const { return fmt::format("{}.{}", architecture_.name, name); }
  bool has_tensor(std::string_view name) const { return tensors_.find(name) != nullptr; }

  Status copy_keys() {
    for (const GgufKeyRow& row : gguf_key_rows()) {
      const std::string name = key(row.gguf);
      const GgufValue* value = file_.find(name);
      if (!is(row.families) || value == nullptr) continue;
      if (row.kind == GgufKeyRow::Kind::kInteger) {
        TRY_ASSIGN(config_[std::string(row.hf)], one_integer(name));
      } else {
        TRY_ASSIGN(const double number, file_.number(name));
        config_[std::string(row.hf)] = readable_number(*value, number);
      }
    }
    return {};
  }

  // Some writers give one number a layer; that is fine as long as all are the same.
  Result<std::int64_t> one_integer(std::string_view name) const {
    if (file_.find(name)->type != GgufValueType::kArray) return file_.integer(name);
    TRY_ASSIGN(const std::vector<std::int64_t> numbers, file_.integers(name));
    const bool equal = !numbers.empty() && std::all_of(numbers.begin(), numbers.end(),
                                                       [&](std::int64_t n) { return n == numbers.front(); });
    if (equal) return numbers.front();
    return bad_data(
        fmt::format("{} differs from layer to layer, which {} models of transformers cannot express", name,
                    architecture_.model_type));
  }

  Status add_sizes() {
    const GgufTensor* embedding = tensors_.find("token_embd.weight");
    const GgufValue* tokens = file_.find("tokenizer.ggml.tokens");
    if (embedding != nullptr && embedding->shape.size() == 2) {
      config_["vocab_size"] = embedding->shape[0];
    } else if (file_.has(key("vocab_size"))) {
      TRY_ASSIGN(config_["vocab_size"], file_.integer(key("vocab_size")));
    } else if (tokens != nullptr && tokens->type == GgufValueType::kArray) {
      config_["vocab_size"] = tokens->count;
    }
    config_["tie_word_embeddings"] = !has_tensor("output.weight") && !is(kGgufBert);
    if (is(kGgufBert)) {
      const GgufTensor* types = tensors_.find("token_types.weight");
      if (types != nullptr && types->shape.size() == 2) config_["type_vocab_size"] = types->shape[0];
    }
    if (!is(kHasHeadDim)) return {};
    TRY_ASSIGN(const std::int64_t heads, json_int_or(config_, "num_attention_heads", 0));
    TRY_ASSIGN(const std::int64_t hidden, json_int_or(config_, "hidden_size", 0));
    if (heads > 0 && !config_.contains("num_key_value_heads")) config_["num_key_value_heads"] = heads;
    if (heads > 0 && hidden % heads == 0 && !config_.contains("head_dim"))
      config_["head_dim"] = hidden / heads;
    return {};
  }

  Result<std::int64_t> head_dim() const {
    if (config_.contains("head_dim")) return json_int(config_, "head_dim");
    TRY_ASSIGN(const std::int64_t heads, json_int_or(config_, "num_attention_heads", 0));
    TRY_ASSIGN(const std::int64_t hidden, json_int_or(config_, "hidden_size", 0));
    return heads > 0 ? hidden / heads : 0;
  }

  Status add_rope() {
    if (!is(kHasRope)) return {};
    if (!config_.contains("rope_theta")) {
      TRY_ASSIGN(config_["rope_theta"], json_number_or(config_, "rotary_emb_base", kDefaultRopeTheta));
    }
    TRY_ASSIGN(const std::int64_t dim, head_dim());
    TRY_ASSIGN(const std::int64_t rotary, file_.integer_or(key("rope.dimension_count"), dim));
    if (is(kGgufPhi3 | kGgufStableLm | kGgufGptNeox) && dim > 0 && rotary >= 0) {
      const double part = static_cast<double>(rotary) / static_cast<double>(dim);
      config_["partial_rotary_factor"] = part;
      if (is(kGgufGptNeox)) config_["rotary_pct"] = part;
    }
    config_["rope_scaling"] = nullptr;
    TRY(add_rope_scaling());
    return add_rope_factors();
  }

  Status add_rope_scaling() {
    TRY_ASSIGN(const std::string type, file_.string_or(key("rope.scaling.type"), "none"));
    if (type == "none" || type == "longrope" || is(kGgufPhi3)) return {};  // longrope: add_rope_factors
    Json scaling;
    scaling["rope_type"] = type;
    constexpr std::pair<std::string_view, std::string_view> kNumbers[] = {
        {"factor", "factor"},
        {"attn_factor", "attention_factor"},
        {"yarn_beta_fast", "beta_fast"},
        {"yarn_beta_slow", "beta_slow"},
    };
    for (const auto& [gguf, hf] : kNumbers) {
      const std::string name = key(fmt::format("rope.scaling.{}", gguf));
      if (!file_.has(name)) continue;
      TRY_ASSIGN(const double number, file_.number(name));
      scaling[std::string(hf)] = readable_number(*file_.find(name), number);
    }
    if (file_.has(key("rope.scaling.original_context_length"))) {
      TRY_ASSIGN(scaling["original_max_position_embeddings"],
                 file_.integer(key("rope.scaling.original_context_length")));
    }
    config_["rope_scaling"] = std::move(scaling);
    return {};
  }

  Status add_rope_factors() {
    if (const GgufTensor* factors = tensors_.find("rope_freqs.weight");
        factors != nullptr && is(kHasHeadDim)) {
      TRY_ASSIGN(const double theta, json_number(config_, "rope_theta"));
      config_["rope_scaling"] = llama3_rope_scaling(tensors_.values(*factors), theta);
    }
    if (!is(kGgufPhi3)) return {};
    TRY_ASSIGN(const std::int64_t longest, json_int_or(config_, "max_position_embeddings", 0));
    TRY_ASSIGN(config_["original_max_position_embeddings"],
               file_.integer_or(key("rope.scaling.original_context_length"), longest));
    const GgufTensor* long_factors = tensors_.find("rope_factors_long.weight");
    const GgufTensor* short_factors = tensors_.find("rope_factors_short.weight");
    if (long_factors == nullptr || short_factors == nullptr) return {};
    Json scaling{{"rope_type", "longrope"}, {"long_factor", Json::array()}, {"short_factor", Json::array()}};
    for (const float f : tensors_.values(*long_factors)) scaling["long_factor"].push_back(shortest(f));
    for (const float f : tensors_.values(*short_factors)) scaling["short_factor"].push_back(shortest(f));
    config_["rope_scaling"] = std::move(scaling);
    return {};
  }

  Status add_traits() {
    if (is(kGgufLlama)) {
      config_["attention_bias"] = has_tensor("blk.0.attn_q.bias");
      config_["mlp_bias"] = has_tensor("blk.0.ffn_up.bias");
    }
    if (config_.contains("sliding_window") && config_["sliding_window"] == 0)
      config_["sliding_window"] = nullptr;
    if (is(kGgufStableLm)) {
      config_["use_qkv_bias"] = has_tensor("blk.0.attn_q.bias");
      config_["qk_layernorm"] = has_tensor("blk.0.attn_q_norm.weight");
    }
    if (is(kGgufStableLm | kGgufGptNeox)) {
      TRY_ASSIGN(config_["use_parallel_residual"], file_.boolean_or(key("use_parallel_residual"), true));
    }
    if (is(kGgufGemma2 | kGgufGemma3)) return add_gemma();
    return {};
  }

  // llama.cpp keeps neither the attention scale nor the window pattern: both follow from the size of the
  // model.
  Status add_gemma() {
    TRY_ASSIGN(const std::int64_t layers, json_int_or(config_, "num_hidden_layers", 0));
    TRY_ASSIGN(const std::int64_t hidden, json_int_or(config_, "hidden_size", 0));
    TRY_ASSIGN(const std::int64_t heads, json_int_or(config_, "num_attention_heads", 0));
    TRY_ASSIGN(const std::int64_t dim, head_dim());
    const bool is_27b = layers == (is(kGgufGemma2) ? 46 : 62);
    config_["query_pre_attn_scalar"] = is_27b && heads > 0 ? hidden / heads : dim;
    TRY_ASSIGN(std::vector<std::int64_t> windowed, window_pattern(layers, is(kGgufGemma2) ? 2 : 6));
    Json types = Json::array();
    for (const std::int64_t sliding : windowed)
      types.push_back(sliding != 0 ? "sliding_attention" : "full_attention");
    config_["layer_types"] = std::move(types);
    if (is(kGgufGemma3) && file_.has(key("rope.freq_base_swa"))) {
      TRY_ASSIGN(config_["rope_local_base_freq"], file_.number(key("rope.freq_base_swa")));
    }
    return {};
  }

  // 1 for layers with a sliding window: as the file says, else all but every `period`-th.
  Result<std::vector<std::int64_t>> window_pattern(std::int64_t layers, std::int64_t period) const {
    constexpr std::int64_t kMostLayers = 10'000;
    const std::string name = key("attention.sliding_window_pattern");
    const GgufValue* value = file_.find(name);
    if (value != nullptr && value->type == GgufValueType::kArray) return file_.integers(name);
    TRY_ASSIGN(const std::int64_t stated, file_.integer_or(name, period));
    std::vector<std::int64_t> pattern;
    for (std::int64_t i = 0; i < std::min(layers, kMostLayers); ++i) {
      pattern.push_back(stated > 0 && (i + 1) % stated != 0 ? 1 : 0);
    }
    return pattern;
  }

  Status add_experts() {
    if (!is(kGgufQwen2Moe | kGgufQwen3Moe)) return {};
    TRY_ASSIGN(const std::int64_t layers, json_int_or(config_, "num_hidden_layers", 0));
    Json dense = Json::array();
    const GgufTensor* experts = nullptr;
    for (std::int64_t i = 0; i < std::min<std::int64_t>(layers, 10'000); ++i) {
      const GgufTensor* found = tensors_.find(fmt::format("blk.{}.ffn_down_exps.weight", i));
      if (found == nullptr && has_tensor(fmt::format("blk.{}.ffn_down.weight", i))) dense.push_back(i);
      if (found != nullptr) experts = found;
    }
    config_["mlp_only_layers"] = std::move(dense);
    if (!config_.contains("moe_intermediate_size") && experts != nullptr && experts->shape.size() == 3) {
      config_["moe_intermediate_size"] = experts->shape[2];
    }
    const GgufTensor* shared = tensors_.find("blk.0.ffn_up_shexp.weight");
    if (!config_.contains("shared_expert_intermediate_size") && shared != nullptr && !shared->shape.empty()) {
      config_["shared_expert_intermediate_size"] = shared->shape[0];
    }
    return {};
  }

  Status add_tokens() {
    constexpr std::pair<std::string_view, std::string_view> kIds[] = {{"bos_token_id", "bos_token_id"},
                                                                      {"eos_token_id", "eos_token_id"},
                                                                      {"padding_token_id", "pad_token_id"}};
    for (const auto& [gguf, hf] : kIds) {
      const std::string name = fmt::format("tokenizer.ggml.{}", gguf);
      if (!file_.has(name)) continue;
      TRY_ASSIGN(config_[std::string(hf)], file_.integer(name));
    }
    return {};
  }

  const GgufFile& file_;
  const GgufArchitecture& architecture_;
  const GgufTensorSource& tensors_;
  Json config_;
};

struct Llama3Rule {
  double factor, low, high, original;

  double factor_at(double wavelength) const {
    if (wavelength < original / high) return 1.0;
    if (wavelength > original / low) return factor;
    const double smooth = (original / wavelength - low) / (high - low);
    return 1.0 / ((1.0 - smooth) / factor + smooth);
  }

  bool gives(std::span<const float> factors, std::span<const double> wavelengths) const {
    for (std::size_t i = 0; i < factors.size(); ++i) {
      const double wanted = static_cast<double>(factors[i]);
      if (!(std::abs(factor_at(wavelengths[i]) - wanted) <= 2e-4 * wanted)) return false;
    }
    return true;
  }
};

// Between the two borders 1/f is linear in 1/wavelength; with low = 1 (only the ratios matter) two points
// give the rule.
bool fit_llama3(std::span<const float> factors, std::span<const double> wavelengths, Llama3Rule& rule) {
  std::vector<std::pair<double, double>> points;  // 1/wavelength, smooth
  for (std::size_t i = 0; i < factors.size(); ++i) {
    const double f = static_cast<double>(factors[i]);
    if (f > 1.0001 && f < rule.factor * 0.9999) {
      points.emplace_back(1.0 / wavelengths[i], (1.0 / f - 1.0 / rule.factor) / (1.0 - 1.0 / rule.factor));
    }
  }
  if (points.size() < 2) return false;
  const auto [x0, y0] = points.front();
  const auto [x1, y1] = points.back();
  const double slope = (y1 - y0) / (x1 - x0);
  const double offset = slope * x0 - y0;
  if (!(offset > 0)) return false;
  rule = {rule.factor, 1.0, 1.0 + 1.0 / offset, slope / offset};
  const Llama3Rule rounded{rule.factor, 1.0, std::nearbyint(rule.high), std::nearbyint(rule.original)};
  if (rounded.high > 1.0 && rounded.gives(factors, wavelengths)) rule = rounded;
  return rule.gives(factors, wavelengths);
}

}  // namespace

Json llama3_rope_scaling(std::span<const float> factors, double rope_theta) {
  constexpr double kTwoPi = 6.283185307179586;
  if (std::all_of(factors.begin(), factors.end(), [](float f) { return f == 1.0F; })) return nullptr;
  std::vector<double> wavelengths;
  for (std::size_t i = 0; i < factors.size(); ++i) {
    wavelengths.push_back(kTwoPi *
                          std::pow(rope_theta, static_cast<double>(i) / static_cast<double>(factors.size())));
  }
  const double largest = static_cast<double>(*std::max_element(factors.begin(), factors.end()));
  Llama3Rule rule{largest, 1.0, 4.0, 8192.0};  // as in Llama 3.1
  bool found = rule.gives(factors, wavelengths) || fit_llama3(factors, wavelengths, rule);
  for (double original = 256; !found && original <= 0x1p20; original *= 2) {
    rule = {largest, 1.0, 4.0, original};
    found = rule.gives(factors, wavelengths);
  }
  if (!found) return {{"rope_type", "gguf_frequency_factors"}};
  Json scaling{{"rope_type", "llama3"},
               {"factor", rule.factor},
               {"low_freq_factor", rule.low},
               {"high_freq_factor", rule.high},
               {"original_max_position_embeddings", rule.original}};
  if (std::nearbyint(rule.original) == rule.original) {
    scaling["original_max_position_embeddings"] = static_cast<std::int64_t>(rule.original);
  }
  return scaling;
}

Result<Json> make_gguf_config(const GgufFile& file, const GgufArchitecture& architecture,
                              const GgufTensorSource& tensors) {
  return ConfigMaker(file, architecture, tensors).make();
}

}  // namespace nibble
