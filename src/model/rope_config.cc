// SPDX-License-Identifier: Apache-2.0
// The rope section of a config: `rope_parameters` (flat, or one object a layer type) or the older
// `rope_scaling` beside `rope_theta`. The rules which value wins are those of transformers 5.
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <utility>

#include "base/json.h"
#include "base/suggest.h"
#include "model/config.h"

namespace nibble {
namespace {

constexpr std::array<std::pair<std::string_view, RopeKind>, 7> kRopeKinds = {{
    {"default", RopeKind::kDefault},
    {"linear", RopeKind::kLinear},
    {"dynamic", RopeKind::kDynamic},
    {"llama3", RopeKind::kLlama3},
    {"yarn", RopeKind::kYarn},
    {"longrope", RopeKind::kLongRope},
    {"su", RopeKind::kLongRope},
}};

Error wrong(std::string_view key, std::string_view found, std::string_view allowed) {
  return bad_data(fmt::format("config key {} is {}, it must be {}", key, found, allowed));
}

Result<RopeKind> rope_kind(const Json& section, const Architecture& row) {
  const Json* name = find_key(section, "rope_type|type");
  if (name == nullptr) return RopeKind::kDefault;
  std::vector<std::string> names;
  for (const auto& [known, kind] : kRopeKinds) {
    if (*name == known)
      return kind == RopeKind::kYarn && row.yarn_means_longrope ? RopeKind::kLongRope : kind;
    names.emplace_back(known);
  }
  return bad_data(fmt::format("config key rope_type is {}; known kinds are {}", name->dump(), join_or(names)),
                  name->is_string() ? did_you_mean(name->get<std::string>(), names) : std::string());
}

Result<double> positive(const Json& section, std::string_view key, double fallback) {
  TRY_ASSIGN(const double value, number_at(section, {key, fallback}));
  if (!(value > 0)) {
    return wrong(fmt::format("rope {}", key),
                 find_key(section, key) ? find_key(section, key)->dump() : "missing", "a positive number");
  }
  return value;
}

Result<std::vector<double>> factors(const Json& section, std::string_view key, std::int64_t count) {
  const Json* list = find_key(section, key);
  std::vector<double> values;
  if (list != nullptr && list->is_array()) {
    for (const Json& entry : *list) {
      if (entry.is_number() && entry.get<double>() > 0) values.push_back(entry.get<double>());
    }
  }
  if (static_cast<std::int64_t>(values.size()) != count ||
      (list != nullptr && list->size() != values.size())) {
    return wrong(fmt::format("rope {}", key), list == nullptr ? "missing" : list->dump().substr(0, 60),
                 fmt::format("a list of {} positive numbers", count));
  }
  return values;
}

Status read_yarn(const Json& section, RopeConfig& rope) {
  TRY_ASSIGN(rope.beta_fast, positive(section, "beta_fast", 32));
  TRY_ASSIGN(rope.beta_slow, positive(section, "beta_slow", 1));
  TRY_ASSIGN(rope.truncate, json_bool_or(section, "truncate", true));
  TRY_ASSIGN(const double mscale, number_at(section, {"mscale", 0}));
  TRY_ASSIGN(const double mscale_all, number_at(section, {"mscale_all_dim", 0}));
  const auto scale = [&rope](double m) {
    return rope.factor <= 1 ? 1.0 : 0.1 * m * std::log(rope.factor) + 1.0;
  };
  const double inferred = mscale != 0 && mscale_all != 0 ? scale(mscale) / scale(mscale_all) : scale(1);
  TRY_ASSIGN(rope.attention_factor, positive(section, "attention_factor", inferred));
  return {};
}

Status read_longrope(const Json& section, bool has_factor, RopeConfig& rope) {
  TRY_ASSIGN(rope.long_factor, factors(section, "long_factor", rope.dim / 2));
  TRY_ASSIGN(rope.short_factor, factors(section, "short_factor", rope.dim / 2));
  const double factor =
      has_factor ? rope.factor : static_cast<double>(rope.max_positions) / rope.original_max_positions;
  const double inferred =
      factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(rope.original_max_positions));
  TRY_ASSIGN(rope.attention_factor, positive(section, "attention_factor", inferred));
  return {};
}

// `outer` holds rope_theta and friends of older configs; values inside `section` win.
Result<RopeConfig> read_one(const Json& outer, const Json& section, const NumberKey& theta,
                            const Architecture& row, const ModelConfig& model) {
  if (!section.is_object()) return wrong("rope_parameters", section.dump(), "an object");
  RopeConfig rope;
  rope.max_positions = model.max_positions;
  TRY_ASSIGN(rope.kind, rope_kind(section, row));
  TRY_ASSIGN(const double outer_theta, number_at(outer, theta));
  TRY_ASSIGN(rope.theta, positive(section, "rope_theta", outer_theta));
  if (rope.theta <= 1) return wrong("rope_theta", fmt::format("{}", rope.theta), "greater than 1");
  TRY_ASSIGN(const double outer_partial, number_at(outer, row.keys.partial_rotary));
  TRY_ASSIGN(const double partial, positive(section, "partial_rotary_factor", outer_partial));
  rope.dim = static_cast<std::int64_t>(static_cast<double>(model.head_dim) * partial);
  if (rope.dim < 2 || rope.dim > model.head_dim || rope.dim % 2 != 0) {
    return wrong(
        "partial_rotary_factor", fmt::format("{}", partial),
        fmt::format("such that an even number of the {} columns of a head is rotated", model.head_dim));
  }
  if (rope.kind == RopeKind::kDefault) return rope;

  const bool has_factor = find_key(section, "factor") != nullptr;
  // The pre-training length: top-level for Phi-3, inside the section for the others.
  TRY_ASSIGN(const double inner_length,
             positive(section, "original_max_position_embeddings", static_cast<double>(model.max_positions)));
  TRY_ASSIGN(rope.original_max_positions, positive(outer, "original_max_position_embeddings", inner_length));
  const double ratio = static_cast<double>(model.max_positions) / rope.original_max_positions;
  const bool may_infer = rope.kind == RopeKind::kYarn || rope.kind == RopeKind::kLongRope;
  if (!has_factor && !may_infer) return wrong("rope factor", "missing", "a positive number");
  TRY_ASSIGN(rope.factor, positive(section, "factor", ratio));
  if (rope.kind == RopeKind::kDynamic && rope.dim == 2)
    return wrong("rope dim", "2", "at least 4 for dynamic scaling");
  if (rope.kind == RopeKind::kLlama3) {
    TRY_ASSIGN(rope.low_freq_factor, positive(section, "low_freq_factor", 1));
    TRY_ASSIGN(rope.high_freq_factor, positive(section, "high_freq_factor", 4));
    if (rope.high_freq_factor <= rope.low_freq_factor) {
      return wrong("rope high_freq_factor", fmt::format("{}", rope.high_freq_factor),
                   "greater than low_freq_factor");
    }
  }
  if (rope.kind == RopeKind::kYarn) TRY(read_yarn(section, rope));
  if (rope.kind == RopeKind::kLongRope) TRY(read_longrope(section, has_factor, rope));
  return rope;
}

}  // namespace

Result<std::vector<RopeConfig>> read_rope(const Json& config, const Architecture& row,
                                          const ModelConfig& model) {
  const Json empty = Json::object();
  const Json* found = find_key(config, "rope_scaling|rope_parameters");
  const Json& section = found == nullptr ? empty : *found;
  if (!section.is_object()) return wrong("rope_parameters", section.dump(), "an object");
  const Json* full = find_key(section, "full_attention");
  const Json* sliding = find_key(section, "sliding_attention");

  std::vector<RopeConfig> ropes(1);
  TRY_ASSIGN(ropes[0], read_one(config, full != nullptr ? *full : section, row.keys.rope_theta, row, model));
  if (!row.keys.rope_local_theta.key.empty()) {
    TRY_ASSIGN(RopeConfig local, read_one(config, sliding != nullptr ? *sliding : empty,
                                          row.keys.rope_local_theta, row, model));
    ropes.push_back(std::move(local));
  }
  return ropes;
}

}  // namespace nibble
