// SPDX-License-Identifier: Apache-2.0
#include "modify/smooth_mapping.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "modify/module_pattern.h"
#include "modify/observed_input.h"
#include "modify/smooth_fold.h"
#include "modify/work_values.h"

namespace nibble {
namespace {

using enum ModuleRole;
using Roles = std::vector<ModuleRole>;

const Roles kAttentionReaders{kQuery, kKey, kValue, kQkv};
const Roles kMlpReaders{kRouter, kExpertGate, kExpertUp, kGate,        kUp,
                        kGateUp, kSharedGate, kSharedUp, kSharedRouter};
// What a linear feeds, with the same parent (and expert).
struct LinearPair {
  ModuleRole smooth, balance;
};
constexpr std::array kAttentionPairs{LinearPair{kValue, kAttentionOutput},
                                     LinearPair{kQkv, kAttentionOutput}};
constexpr std::array kMlpPairs{LinearPair{kUp, kDown}, LinearPair{kGateUp, kDown},
                               LinearPair{kExpertUp, kExpertDown}, LinearPair{kSharedUp, kSharedDown}};

bool is_one_of(const Roles& roles, ModuleRole role) {
  return std::ranges::find(roles, role) != roles.end();
}

// The modules of one block, by role.
class BlockRoles {
 public:
  explicit BlockRoles(const ModelDescription& model) : model_(model) {}
  void add(std::size_t module) { modules_.push_back(module); }

  std::vector<std::size_t> with(const Roles& roles) const {
    std::vector<std::size_t> found;
    for (const std::size_t m : modules_) {
      if (is_one_of(roles, model_.modules[m].role)) found.push_back(m);
    }
    return found;
  }
  bool has(ModuleRole role) const { return !with({role}).empty(); }

  // What reads the output of a norm. A block without a norm before its MLP is parallel or post-norm: the MLP
  // of the former reads what attention reads.
  std::vector<std::size_t> readers_of(std::size_t norm) const {
    const ModuleRole role = model_.modules[norm].role;
    if (role == kMlpInputNorm) return with(kMlpReaders);
    if (role != kAttentionInputNorm) return {};
    std::vector<std::size_t> readers = with(kAttentionReaders);
    if (has(kMlpInputNorm) || has(kMlpResidualNorm) || has(kAttentionResidualNorm)) return readers;
    for (const std::size_t m : with(kMlpReaders)) readers.push_back(m);
    return readers;
  }

 private:
  const ModelDescription& model_;
  std::vector<std::size_t> modules_;
};

std::vector<BlockRoles> blocks_of(const ModelDescription& model) {
  std::map<int, BlockRoles> blocks;
  for (std::size_t i = 0; i < model.modules.size(); ++i) {
    const int block = model.modules[i].block;
    if (block >= 0) blocks.try_emplace(block, model).first->second.add(i);
  }
  std::vector<BlockRoles> result;
  for (auto& [number, roles] : blocks) result.push_back(std::move(roles));
  return result;
}

std::string_view parent_of(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
}

// Outputs of a linear that can be divided: all of them, or the last part of a fused one.
bool widths_fit(const ModelDescription& model, const ModuleInfo& smooth, const ModuleInfo& balance) {
  if (smooth.kind == ModuleKind::kNorm) return smooth.rows == balance.cols;
  if (smooth.role == kQkv) return !model.qkv_by_head && smooth.rows == 3 * balance.cols;
  if (smooth.role == kGateUp) return smooth.rows == 2 * balance.cols;
  return smooth.rows == balance.cols;
}

class RoleMapper {
 public:
  RoleMapper(const ModelDescription& model, bool is_strict)
      : model_(model), is_strict_(is_strict), blocks_(blocks_of(model)) {}

  void add_norm(ModuleRole role, bool with_experts) {
    for (const BlockRoles& block : blocks_) {
      const bool is_mixture = block.has(kRouter);
      if (is_mixture && role == kMlpInputNorm && !with_experts) continue;
      for (const std::size_t norm : block.with({role})) add(norm, without_router(block.readers_of(norm)));
    }
  }

  void add_pairs(std::span<const LinearPair> pairs) {
    for (const BlockRoles& block : blocks_) {
      for (const LinearPair& pair : pairs) {
        for (const std::size_t smooth : block.with({pair.smooth})) {
          const std::string_view parent = parent_of(model_.modules[smooth].name);
          for (const std::size_t balance : block.with({pair.balance})) {
            if (parent_of(model_.modules[balance].name) == parent) add(smooth, {balance});
          }
        }
      }
    }
  }

  SmoothMappings finish() {
    if (narrow_ > 0) {
      result_.notes.push_back(
          fmt::format("{} pairs of layers are left out: the outputs of one are not the "
                      "inputs of the other (grouped queries, interleaved heads)",
                      narrow_));
    }
    if (routers_ > 0) {
      result_.notes.push_back(
          fmt::format("{} routers are not scaled with the norm they read, as in the "
                      "reference: routing changes",
                      routers_));
    }
    return std::move(result_);
  }

 private:
  // llm-compressor's table has the router for these classes only; for others the scale changes its choices.
  std::vector<std::size_t> without_router(std::vector<std::size_t> readers) {
    static constexpr std::array kWithRouter{std::string_view("Qwen2MoeForCausalLM"),
                                            std::string_view("Qwen3MoeForCausalLM"),
                                            std::string_view("Glm4MoeForCausalLM")};
    if (!is_strict_ || std::ranges::find(kWithRouter, model_.architecture) != kWithRouter.end())
      return readers;
    routers_ += static_cast<int>(
        std::erase_if(readers, [&](std::size_t m) { return model_.modules[m].role == kRouter; }));
    return readers;
  }

  // Query heads for each head of keys and values; 0 when the widths do not fit.
  std::int64_t heads_per_group(const ModuleInfo& value, const ModuleInfo& output) const {
    if (is_strict_ || value.role != kValue || output.role != kAttentionOutput || model_.head_dim == 0)
      return 0;
    const bool fits = value.rows % model_.head_dim == 0 && output.cols % value.rows == 0;
    return fits ? output.cols / value.rows : 0;
  }

  void add(std::size_t smooth, std::vector<std::size_t> balance) {
    const ModuleInfo& source = model_.modules[smooth];
    if (balance.empty() || source.weight.empty()) return;
    if (const std::int64_t heads = heads_per_group(source, model_.modules[balance[0]]); heads > 1) {
      result_.mappings.push_back({smooth, std::move(balance), heads, model_.head_dim});
      return;
    }
    for (const std::size_t m : balance) {
      if (widths_fit(model_, source, model_.modules[m])) continue;
      ++narrow_;
      return;
    }
    result_.mappings.push_back({.smooth = smooth, .balance = std::move(balance)});
  }

  const ModelDescription& model_;
  bool is_strict_;
  std::vector<BlockRoles> blocks_;
  SmoothMappings result_;
  int narrow_ = 0;
  int routers_ = 0;
};

std::string common_parent(std::string_view a, std::string_view b) {
  std::size_t shared = 0;
  for (std::size_t i = 0;; ++i) {
    const bool end_a = i == a.size(), end_b = i == b.size();
    if ((end_a || a[i] == '.') && (end_b || b[i] == '.')) shared = i;
    if (end_a || end_b || a[i] != b[i]) return std::string(a.substr(0, shared));
  }
}

// Collects matches until every pattern has one; the set ends where the next match would widen the part of
// the tree that holds it.
class SetMatcher {
 public:
  SetMatcher(const ModelDescription& model, const MappingPatterns& patterns)
      : model_(model), patterns_(patterns) {}

  Result<std::vector<SmoothMapping>> run() {
    TRY_ASSIGN(const ModuleTarget smooth, ModuleTarget::parse(patterns_.smooth));
    targets_.push_back(smooth);
    for (const std::string& text : patterns_.balance) {
      TRY_ASSIGN(ModuleTarget target, ModuleTarget::parse(text));
      targets_.push_back(std::move(target));
    }
    found_.resize(targets_.size());
    for (std::size_t m = 0; m < model_.modules.size(); ++m) TRY(take(m));
    if (is_empty()) {
      return usage_error(fmt::format("the mapping of {} matches no modules", patterns_.smooth),
                         nearest_module(patterns_.smooth, model_));
    }
    TRY(close());
    return std::move(result_);
  }

 private:
  bool is_full() const {
    return std::ranges::none_of(found_, [](const auto& list) { return list.empty(); });
  }
  bool is_empty() const {
    return result_.empty() && std::ranges::all_of(found_, [](const auto& list) { return list.empty(); });
  }

  Status take(std::size_t m) {
    const std::string& name = model_.modules[m].name;
    int hits = 0;
    for (std::size_t t = 0; t < targets_.size(); ++t) {
      if (!matches(targets_[t], model_.modules[m])) continue;
      if (++hits > 1) {
        return usage_error(
            fmt::format("{} matches two patterns of the mapping of {}", name, patterns_.smooth),
            "make the patterns exclude each other, for example with a $ at their ends");
      }
      std::string parent = has_parent_ ? common_parent(parent_, name) : name;
      if (is_full() && parent != parent_) {
        TRY(close());
        parent = name;
      }
      found_[t].push_back(m);
      parent_ = std::move(parent);
      has_parent_ = true;
    }
    return {};
  }

  Status close() {
    if (!is_full()) {
      return usage_error(
          fmt::format("the mapping of {} finds only some of its layers near {}", patterns_.smooth, parent_));
    }
    if (found_[0].size() != 1) {
      return usage_error(fmt::format("the mapping of {} finds {} smooth layers for one set, expected 1",
                                     patterns_.smooth, found_[0].size()));
    }
    SmoothMapping mapping{.smooth = found_[0][0], .balance = {}};
    for (std::size_t t = 1; t < found_.size(); ++t)
      mapping.balance.insert(mapping.balance.end(), found_[t].begin(), found_[t].end());
    result_.push_back(std::move(mapping));
    found_.assign(targets_.size(), {});
    return {};
  }

  const ModelDescription& model_;
  const MappingPatterns& patterns_;
  std::vector<ModuleTarget> targets_;  // smooth, then balance
  std::vector<std::vector<std::size_t>> found_;
  std::vector<SmoothMapping> result_;
  std::string parent_;
  bool has_parent_ = false;
};

// What the roles say of a mapping: its readers exactly, or the model changes.
bool keeps_function(const ModelDescription& model, const SmoothMapping& mapping,
                    const std::vector<SmoothMapping>& exact) {
  const std::set<std::size_t> balance(mapping.balance.begin(), mapping.balance.end());
  return std::ranges::any_of(exact,
                             [&](const SmoothMapping& known) {
                               return known.smooth == mapping.smooth &&
                                      balance ==
                                          std::set<std::size_t>(known.balance.begin(), known.balance.end());
                             }) ||
         model.modules[mapping.smooth].role == kNone;
}

// The scale of each output: that of the first column that reads it.
std::vector<float> scales_of_outputs(const SmoothMapping& mapping, std::span<const float> scales) {
  if (mapping.heads_per_group < 2) return {scales.begin(), scales.end()};
  std::vector<float> result;
  const std::int64_t span = mapping.heads_per_group * mapping.head_dim;
  for (std::int64_t group = 0; group < std::ssize(scales); group += span) {
    const auto first =
        scales.subspan(static_cast<std::size_t>(group), static_cast<std::size_t>(mapping.head_dim));
    result.insert(result.end(), first.begin(), first.end());
  }
  return result;
}

}  // namespace

SmoothMappings role_mappings(const ModelDescription& model, MappingFamily family, bool is_strict) {
  RoleMapper mapper(model, is_strict);
  const bool has_linears = family == MappingFamily::kNormsAndLinears;
  mapper.add_norm(kAttentionInputNorm, true);
  if (has_linears) mapper.add_pairs(kAttentionPairs);
  mapper.add_norm(kMlpInputNorm, has_linears || !is_strict);
  if (has_linears && model.up_passes_factors) mapper.add_pairs(kMlpPairs);
  return mapper.finish();
}

Result<SmoothMappings> pattern_mappings(const ModelDescription& model,
                                        std::span<const MappingPatterns> patterns) {
  SmoothMappings result;
  const std::vector<SmoothMapping> exact =
      role_mappings(model, MappingFamily::kNormsAndLinears, false).mappings;
  for (const MappingPatterns& wanted : patterns) {
    TRY_ASSIGN(std::vector<SmoothMapping> sets, SetMatcher(model, wanted).run());
    std::vector<std::string> inexact;
    for (SmoothMapping& mapping : sets) {
      const ModuleInfo& smooth = model.modules[mapping.smooth];
      if (!wanted.observed.empty()) TRY(check_observed_input(model, mapping, wanted.observed));
      const bool fits = std::ranges::all_of(
          mapping.balance, [&](std::size_t m) { return widths_fit(model, smooth, model.modules[m]); });
      if (!fits || smooth.weight.empty()) {
        result.notes.push_back(
            fmt::format("the mapping of {} is left out: its outputs do not fit the inputs "
                        "of {}",
                        smooth.name, model.modules[mapping.balance[0]].name));
        continue;
      }
      if (!keeps_function(model, mapping, exact)) inexact.push_back(smooth.name);
      result.mappings.push_back(std::move(mapping));
    }
    if (inexact.empty()) continue;
    const std::string others = inexact.size() > 1 ? fmt::format(" (and {} more)", inexact.size() - 1) : "";
    result.notes.push_back(fmt::format(
        "the mapping of {}{} changes the model: its balance layers are not all that read it, or something "
        "stands between them",
        inexact[0], others));
  }
  return result;
}

Result<SmoothWork> find_smooth_work(const ModelDescription& model, const SmoothMapping& mapping,
                                    UnitWork& unit) {
  SmoothWork found;
  found.smooth = unit.find(model.modules[mapping.smooth].name);
  bool has_any = found.smooth != nullptr, has_all = has_any;
  for (const std::size_t m : mapping.balance) {
    found.balance.push_back(unit.find(model.modules[m].name));
    has_any = has_any || found.balance.back();
    has_all = has_all && found.balance.back();
  }
  if (has_all) return found;
  if (!has_any) return SmoothWork{};
  return usage_error(fmt::format("{} and the layers that read it are not calibrated together",
                                 model.modules[mapping.smooth].name),
                     "let sequential_targets name whole decoder layers");
}

std::vector<float> mean_over_groups(const SmoothMapping& mapping, std::span<const float> columns) {
  std::vector<float> result(columns.begin(), columns.end());
  const std::int64_t heads = mapping.heads_per_group, dim = mapping.head_dim;
  if (heads < 2) return result;
  const std::int64_t span = heads * dim;  // columns that one head of values feeds
  for (std::int64_t group = 0; group < std::ssize(columns); group += span) {
    for (std::int64_t i = group; i < group + dim; ++i) {
      double sum = 0;
      for (std::int64_t h = 0; h < heads; ++h)
        sum += static_cast<double>(columns[static_cast<std::size_t>(i + h * dim)]);
      for (std::int64_t h = 0; h < heads; ++h)
        result[static_cast<std::size_t>(i + h * dim)] = static_cast<float>(sum / static_cast<double>(heads));
    }
  }
  return result;
}

Status fold_scales(ThreadPool& pool, const SmoothMapping& mapping, std::span<const float> scales,
                   const SmoothWork& work) {
  TRY(check_smooth_scales(scales, work.balance[0]->weight.dim(1)).at(work.smooth->module->name));
  for (ModuleWork* balance : work.balance) {
    Matrix weight = weight_matrix(pool, *balance);
    scale_columns(pool, scales, balance->weight.dtype(), weight);
    store_weight(pool, weight, *balance);
  }
  const std::vector<float> of_outputs = scales_of_outputs(mapping, scales);
  ModuleWork& smooth = *work.smooth;
  const DType dtype = smooth.weight.dtype();
  Matrix weight = weight_matrix(pool, smooth);
  std::vector<float> bias = bias_values(smooth);
  if (smooth.module->kind == ModuleKind::kNorm) {
    divide_norm(of_outputs, smooth.module->norm_offset, dtype, weight.values(), bias);
  } else {
    divide_rows(of_outputs, dtype, weight, bias);
  }
  store_weight(pool, weight, smooth);
  if (!bias.empty()) store_bias(bias, smooth);
  return {};
}

}  // namespace nibble
