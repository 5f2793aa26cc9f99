// SPDX-License-Identifier: Apache-2.0
#include "modify/scheme_map.h"

#include <fmt/format.h>

#include <map>

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

struct Targets {
  std::vector<ModulePattern> patterns;  // sorted
  std::map<std::string, SharedScheme> scheme_of;
};

Result<Targets> targets_of(const ConfigGroups& groups) {
  Targets targets;
  for (const auto& [name, scheme] : groups) {
    const auto shared = std::make_shared<const QuantizationScheme>(scheme);
    for (const std::string& text : scheme.targets) {
      if (!targets.scheme_of.contains(text)) {
        auto pattern = ModulePattern::parse(text);
        if (!pattern.ok()) return std::move(pattern).at(fmt::format("targets of {}", name)).error();
        targets.patterns.push_back(std::move(pattern).value());
      }
      targets.scheme_of[text] = shared;  // a later group takes a target over
    }
  }
  sort_patterns(targets.patterns);
  return targets;
}

std::vector<PatternCount> count_matches(const std::vector<ModulePattern>& patterns, bool is_ignore,
                                        const ModelDescription& model) {
  std::vector<PatternCount> counts;
  for (const ModulePattern& pattern : patterns) {
    PatternCount count{pattern.text(), is_ignore, 0};
    for (const ModuleInfo& module : model.modules) count.matches += pattern.matches(module) ? 1 : 0;
    counts.push_back(std::move(count));
  }
  return counts;
}

Status check_counts(const std::vector<ModulePattern>& patterns, const std::vector<PatternCount>& counts,
                    const ModelDescription& model, const RecipeRules& rules, MatchReport& report) {
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i].matches > 0) continue;
    const std::string nearest = nearest_module(patterns[i], model);
    const std::string what =
        fmt::format("{} \"{}\" matches no module of this {}", counts[i].is_ignore ? "ignore entry" : "target",
                    counts[i].pattern, model.architecture);
    if (!rules.strict && (!counts[i].is_ignore || !nearest.empty())) {
      return usage_error(what, nearest.empty() ? "`nibble inspect MODEL --tree` lists the names" : nearest);
    }
    report.warnings.push_back(what + (nearest.empty() ? "" : "; " + nearest));
  }
  return {};
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

Status attach_schemes(const ResolvedQuantization& quantization, const ModelDescription& model,
                      const RecipeRules& rules, SchemeMap& schemes, MatchReport& report) {
  TRY_ASSIGN(const Targets targets, targets_of(quantization.config_groups));
  auto ignore = parse_patterns(quantization.ignore);
  if (!ignore.ok()) return std::move(ignore).at("ignore").error();

  const auto target_counts = count_matches(targets.patterns, false, model);
  const auto ignore_counts = count_matches(*ignore, true, model);
  report.counts.insert(report.counts.end(), target_counts.begin(), target_counts.end());
  report.counts.insert(report.counts.end(), ignore_counts.begin(), ignore_counts.end());
  TRY(check_counts(targets.patterns, target_counts, model, rules, report));
  TRY(check_counts(*ignore, ignore_counts, model, rules, report));

  for (std::size_t i = 0; i < model.modules.size(); ++i) {
    const ModuleInfo& module = model.modules[i];
    const auto winner = winning_pattern(targets.patterns, module);
    if (!winner || matches_any(*ignore, module) || !can_be_quantized(module)) continue;
    const SharedScheme& scheme = targets.scheme_of.at(targets.patterns[*winner].text());
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
