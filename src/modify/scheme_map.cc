// SPDX-License-Identifier: Apache-2.0
#include "modify/scheme_map.h"

#include <fmt/format.h>

#include "base/check.h"

namespace nibble {
namespace {

using SharedScheme = std::shared_ptr<const QuantizationScheme>;

// Only these can hold quantized weights; other modules that match are passed over, as in the reference.
bool can_be_quantized(const ModuleInfo& module) {
  if (module.kind == ModuleKind::kEmbedding) return true;
  return module.kind == ModuleKind::kLinear && module.class_name == "Linear" &&
         module.role != ModuleRole::kRouter;
}

// All targets of all groups, and the group of each.
struct GroupTargets {
  ModuleTargets targets;
  std::vector<SharedScheme> scheme_of;  // parallel to targets.targets()
};

Result<GroupTargets> targets_of(const ConfigGroups& groups) {
  GroupTargets out;
  std::vector<std::string> texts;
  for (const auto& [name, scheme] : groups) {
    const auto shared = std::make_shared<const QuantizationScheme>(scheme);
    for (const std::string& text : scheme.targets) {
      texts.push_back(text);
      out.scheme_of.push_back(shared);
    }
  }
  TRY_ASSIGN(out.targets, ModuleTargets::parse(texts));
  return out;
}

bool takes_scheme(const QuantizationScheme& scheme) {
  return scheme.weights || scheme.input_activations || scheme.output_activations;
}

}  // namespace

const QuantizationScheme* SchemeMap::find(const ModelDescription& model, const ModuleInfo& module) const {
  const std::ptrdiff_t index = &module - model.modules.data();
  CHECK(index >= 0 && index < static_cast<std::ptrdiff_t>(of_module_.size()), "a module of another model");
  return of_module_[static_cast<std::size_t>(index)].get();
}

void SchemeMap::attach(std::size_t module, SharedScheme scheme) {
  of_module_[module] = std::move(scheme);
}

std::int64_t SchemeMap::size() const {
  std::int64_t count = 0;
  for (const SharedScheme& scheme : of_module_) count += scheme ? 1 : 0;
  return count;
}

Status report_counts(const std::vector<PatternCount>& counts, const ModelDescription& model,
                     const RecipeRules& rules, MatchReport& report) {
  report.counts.insert(report.counts.end(), counts.begin(), counts.end());
  for (const PatternCount& count : counts) {
    if (count.matches > 0) continue;
    const std::string nearest = nearest_module(count.pattern, model);
    const std::string what =
        fmt::format("{} \"{}\" matches no module of this {}", count.is_ignore ? "ignore entry" : "target",
                    count.pattern, model.architecture);
    // Recipes for several models carry expressions for modules that only some of them have.
    const bool may_be_meant = count.is_ignore && (nearest.empty() || count.pattern.starts_with("re:"));
    if (!rules.strict && !may_be_meant) {
      return usage_error(what, nearest.empty() ? "`nibble inspect MODEL --tree` lists the names" : nearest);
    }
    report.warnings.push_back(what + (nearest.empty() ? "" : "; " + nearest));
  }
  return {};
}

Status attach_schemes(const ResolvedQuantization& quantization, const ModelDescription& model,
                      const RecipeRules& rules, SchemeMap& schemes, MatchReport& report) {
  auto groups = targets_of(quantization.config_groups);
  if (!groups.ok()) return std::move(groups).at("targets").error();
  auto ignore = ModuleTargets::parse(quantization.ignore);
  if (!ignore.ok()) return std::move(ignore).at("ignore").error();

  for (const bool is_ignore : {false, true}) {
    TRY(report_counts(count_matches(is_ignore ? *ignore : groups->targets, is_ignore, model), model, rules,
                      report));
  }
  for (std::size_t i = 0; i < model.modules.size(); ++i) {
    const ModuleInfo& module = model.modules[i];
    const std::vector<std::string_view> classes = classes_of(module);
    const auto winner = groups->targets.winner(module.name, classes);
    if (!winner || ignore->matches(module.name, classes) || !can_be_quantized(module)) continue;
    const SharedScheme& scheme = groups->scheme_of[*winner];
    schemes.attach(i, takes_scheme(*scheme) ? scheme : nullptr);
  }
  if (quantization.kv_cache_scheme) schemes.kv_cache_scheme = quantization.kv_cache_scheme;
  return {};
}

std::vector<RaggedModule> ragged_modules(const ModelDescription& model, const SchemeMap& schemes) {
  std::vector<RaggedModule> ragged;
  for (std::size_t i = 0; i < model.modules.size(); ++i) {
    const QuantizationScheme* scheme = schemes.at(i);
    if (!scheme || !scheme->weights) continue;
    const std::int64_t size = scheme->weights->group_size.value_or(-1);
    if (size > 0 && model.modules[i].cols % size != 0) ragged.push_back({&model.modules[i], size});
  }
  return ragged;
}

Error ragged_error(const std::vector<RaggedModule>& modules) {
  std::string list;
  for (std::size_t i = 0; i < modules.size() && i < 10; ++i) {
    list += fmt::format("{}{} ({} columns, group_size {})", i == 0 ? "" : ", ", modules[i].module->name,
                        modules[i].module->cols, modules[i].group_size);
  }
  if (modules.size() > 10) list += fmt::format(" and {} more", modules.size() - 10);
  return usage_error(fmt::format("the columns of {} are not a multiple of group_size: {}",
                                 modules.size() == 1 ? "a module" : "some modules", list),
                     "choose a group_size that divides them, add them to ignore, or set "
                     "bypass_divisibility_checks: true");
}

}  // namespace nibble
