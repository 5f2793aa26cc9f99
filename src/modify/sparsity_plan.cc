// SPDX-License-Identifier: Apache-2.0
#include "modify/sparsity_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "modify/module_pattern.h"
#include "modify/owl.h"
#include "modify/wanda.h"
#include "modify/work_values.h"

namespace nibble {
namespace {

bool is_prunable(const ModuleInfo& module) {
  return module.kind == ModuleKind::kLinear && module.role != ModuleRole::kRouter;
}

Result<std::vector<ModuleTarget>> parse_targets(const std::vector<std::string>& texts) {
  std::vector<ModuleTarget> targets;
  for (const std::string& text : texts) {
    TRY_ASSIGN(ModuleTarget target, ModuleTarget::parse(text));
    targets.push_back(std::move(target));
  }
  return targets;
}

// By name, class, or the name of the weight (older recipes name parameters).
bool matches_weight(const ModuleTarget& target, const ModuleInfo& module) {
  return matches(target, module) || (is_prunable(module) && target.matches_name(module.name + ".weight"));
}

bool any_matches(const std::vector<ModuleTarget>& targets, const ModuleInfo& module) {
  return std::ranges::any_of(targets,
                             [&](const ModuleTarget& target) { return matches_weight(target, module); });
}

// Whether the target is the module or a layer that holds it.
bool is_under(const ModuleTarget& target, const ModelDescription& model, std::string_view name) {
  return std::ranges::any_of(model.modules, [&](const ModuleInfo& layer) {
    return nibble::is_under(name, layer.name) && matches_weight(target, layer);
  });
}

std::vector<PatternCount> count_weights(const std::vector<ModuleTarget>& targets, bool is_ignore,
                                        const ModelDescription& model) {
  std::vector<PatternCount> counts;
  for (const ModuleTarget& target : targets) {
    const auto hits = std::ranges::count_if(
        model.modules, [&](const ModuleInfo& module) { return matches_weight(target, module); });
    counts.push_back({target.text(), is_ignore, hits});
  }
  return counts;
}

Status check_share(double sparsity, std::string_view where) {
  if (sparsity >= 0 && sparsity <= 1) return {};
  return usage_error(fmt::format("the sparsity of {} is {}; allowed is 0 to 1", where, sparsity));
}

}  // namespace

Result<PruneTargets> prune_targets(ModelState& state, const std::vector<std::string>& targets,
                                   const std::vector<std::string>& ignore) {
  TRY_ASSIGN(const std::vector<ModuleTarget> wanted, parse_targets(targets));
  TRY_ASSIGN(const std::vector<ModuleTarget> ignored, parse_targets(ignore));
  const ModelDescription& model = state.model;
  // Lists for several models name classes that only some have; that none matches is an error below.
  TRY(report_counts(count_weights(wanted, false, model), model, {.strict = true}, state.matches));
  TRY(report_counts(count_weights(ignored, true, model), model, state.rules, state.matches));
  std::map<std::size_t, std::size_t> target_of;
  PruneTargets found;
  for (const ModuleInfo& layer : model.modules) {
    if (!any_matches(wanted, layer)) continue;
    bool holds_any = false;
    for (std::size_t m = 0; m < model.modules.size(); ++m) {
      const ModuleInfo& module = model.modules[m];
      if (!is_prunable(module) || !nibble::is_under(module.name, layer.name)) continue;
      holds_any = true;
      if (any_matches(ignored, module)) continue;
      if (!module.tied_to.empty() && !state.unties_embeddings) {
        state.matches.warnings.push_back(
            fmt::format("{} is not pruned: it shares its weight with {}; with tie_word_embeddings: false it "
                        "gets one of its own",
                        module.name, module.tied_to));
        continue;
      }
      target_of[m] = found.targets;
    }
    if (holds_any) ++found.targets;
  }
  for (const auto& [module, target] : target_of) found.modules.push_back({module, target});
  if (!found.modules.empty()) return found;
  return usage_error("targets match no linear that could be pruned",
                     targets.empty() ? std::string() : nearest_module(targets[0], model));
}

Status SparsityModifier::initialize(ModelState& state) {
  is_strict_ = state.rules.strict;
  const Arguments& arguments = config().arguments;
  correction_ = correction_options(arguments, is_strict_);
  TRY_ASSIGN(structure_, parse_mask_structure(arguments.text("mask_structure"), 0));
  if (is_strict_ && arguments.at("sparsity_profile").if_text() &&
      arguments.text("sparsity_profile") == "kl") {
    return usage_error(fmt::format("{}: sparsity_profile kl does not exist in llm-compressor", class_name()),
                       "leave out --reference, or use owl");
  }
  auto found = prune_targets(state, arguments.texts("targets"), arguments.texts("ignore"));
  if (!found.ok()) return std::move(found).at(class_name()).error();
  TRY(read_sparsities(state, *found).at(class_name()));
  if (measures_divergence() && structure_.is_structured()) {
    return usage_error(
        fmt::format("{}: sparsity_profile kl and mask_structure N:M exclude each other: N:M fixes "
                    "the sparsity of every layer",
                    class_name()),
        "leave out one of them");
  }
  preserved_ = state.pruned;
  for (const auto& [name, sparsity] : sparsity_) state.pruned.insert(name);
  return {};
}

bool SparsityModifier::has_profile() const {
  const Arguments& arguments = config().arguments;
  // A list under the profile is what llm-compressor writes back after it resolved the profile.
  return arguments.at("sparsity").if_float() &&
         (!arguments.text("sparsity_profile").empty() || !arguments.at("dlp_alpha").is_null());
}

Status SparsityModifier::read_sparsities(const ModelState& state, const PruneTargets& found) {
  const RecipeValue& given = config().arguments.at("sparsity");
  if (!given.is_null() && !given.if_float() && structure_.is_structured()) {
    return usage_error("sparsity per layer and mask_structure N:M exclude each other: N:M fixes the sparsity",
                       "give sparsity as one number, or mask_structure: 0:0");
  }
  if (const RecipeValue::List* list = given.if_list()) return read_list(*list, state.model, found);
  if (const RecipeValue::Map* map = given.if_map()) return read_map(*map, state.model, found);
  if (given.is_null() && !structure_.is_structured())
    return usage_error("sparsity is null; it must be a number where mask_structure is 0:0");
  const double sparsity = given.is_null() ? structure_.target() : config().arguments.number("sparsity");
  for (const PrunedModule& pruned : found.modules)
    sparsity_[state.model.modules[pruned.module].name] = sparsity;
  return {};
}

Status SparsityModifier::read_list(const RecipeValue::List& list, const ModelDescription& model,
                                   const PruneTargets& found) {
  if (list.size() != found.targets) {
    return usage_error(fmt::format("sparsity has {} values for {} targets", list.size(), found.targets),
                       "give one value for each module that targets match, for example each decoder layer");
  }
  for (const PrunedModule& pruned : found.modules)
    sparsity_[model.modules[pruned.module].name] = *list[pruned.target].if_float();
  return {};
}

Status SparsityModifier::read_map(const RecipeValue::Map& map, const ModelDescription& model,
                                  const PruneTargets& found) {
  if (is_strict_) return usage_error("sparsity is a map; it must be a number or a list of numbers");
  for (const auto& [pattern, value] : map) {
    const double* share = value.if_float();
    const std::int64_t* whole = value.if_int();
    if (!share && !whole)
      return usage_error(
          fmt::format("the sparsity of {} is {}, expected a number", pattern, value.describe()));
    const double sparsity = share ? *share : static_cast<double>(*whole);
    TRY(check_share(sparsity, pattern));
    TRY_ASSIGN(const ModuleTarget target, ModuleTarget::parse(pattern));
    bool is_used = false;
    for (const PrunedModule& pruned : found.modules) {
      const std::string& name = model.modules[pruned.module].name;
      if (!is_under(target, model, name)) continue;
      sparsity_[name] = sparsity;
      is_used = true;
    }
    if (!is_used) {
      return usage_error(fmt::format("sparsity names \"{}\", which is no module that is pruned", pattern),
                         nearest_module(pattern, model));
    }
  }
  return {};
}

bool SparsityModifier::is_pruned(const ModuleInfo& module) const {
  return sparsity_.contains(module.name);
}

std::optional<PrunePattern> SparsityModifier::pattern_of(const ModuleInfo& module) const {
  const auto entry = sparsity_.find(module.name);
  if (entry == sparsity_.end()) return std::nullopt;
  PrunePattern pattern = structure_;
  pattern.sparsity = entry->second;
  return pattern;
}

std::optional<PlannedMask> SparsityModifier::planned_mask(const ModuleInfo& module) const {
  const std::optional<PrunePattern> pattern = pattern_of(module);
  if (!pattern) return std::nullopt;
  const bool is_profiled = has_profile() && !pattern->is_structured();
  return PlannedMask{is_profiled ? MaskOrigin::kData : MaskOrigin::kRecipe, *pattern};
}

unsigned SparsityModifier::survey_needs(const ModelState&, const ModuleInfo& module) const {
  return has_profile() && module.block >= 0 && is_prunable(module) ? kInputSquareMean : kNoStatistic;
}

bool SparsityModifier::measures_divergence() const {
  return has_profile() && config().arguments.text("sparsity_profile") == "kl";
}

// By Wanda's rule: as quick as the statistics that are there.
Status SparsityModifier::on_trial(UnitWork& block, Context& context) {
  for (ModuleWork& work : block.modules) {
    const auto pattern = pattern_of(*work.module);
    if (!pattern || !work.statistics || work.statistics->input_square_mean.empty()) continue;
    const Matrix weight = weight_matrix(context.pool, work);
    TRY_ASSIGN(const Matrix keep,
               wanda_mask(context.pool, weight, work.statistics->input_square_mean, *pattern));
    store_weight(context.pool, masked(weight, keep), work);
  }
  return {};
}

Status SparsityModifier::on_survey(const UnitWork& block, Context& context) {
  if (!has_profile() || measures_divergence()) return {};
  std::vector<Matrix> weights;
  std::vector<std::vector<float>> norms;
  int number = -1;
  for (const ModuleWork& work : block.modules) {
    if (!is_prunable(*work.module) || !work.statistics || work.statistics->input_square_mean.empty())
      continue;
    number = work.module->block;
    weights.push_back(weight_matrix(context.pool, work));
    std::vector<float>& norm = norms.emplace_back();
    for (const float square : work.statistics->input_square_mean) norm.push_back(std::sqrt(square));
  }
  if (weights.empty()) return {};
  std::vector<ScoredWeight> scored;
  for (std::size_t i = 0; i < weights.size(); ++i) scored.push_back({&weights[i], norms[i]});
  const Arguments& arguments = config().arguments;
  profile_[number] = arguments.at("dlp_alpha").is_null()
                         ? outlier_ratio(scored, static_cast<double>(arguments.integer("owl_m")))
                         : median_importance(scored);
  return {};
}

// In the order of the blocks that were surveyed.
Result<std::vector<double>> SparsityModifier::profile_sparsities(const ModelState& state) const {
  std::vector<double> values, weights;
  for (const auto& [block, value] : profile_) {
    values.push_back(value);
    double count = 0;
    for (const ModuleInfo& module : state.model.modules) {
      if (module.block == block && is_pruned(module))
        count += static_cast<double>(module.rows) * static_cast<double>(module.cols);
    }
    weights.push_back(count);
  }
  const Arguments& arguments = config().arguments;
  const double mean = arguments.number("sparsity");
  if (measures_divergence()) return kl_sparsities(values, weights, mean, arguments.number("kl_lmbda"));
  if (!arguments.at("dlp_alpha").is_null())
    return dlp_sparsities(values, mean, arguments.number("dlp_alpha"));
  return owl_sparsities(values, mean, arguments.number("owl_lmbda"));
}

Status SparsityModifier::on_calibration_start(ModelState& state) {
  if (!has_profile()) return {};
  CHECK(!profile_.empty(), "the profile was surveyed");
  auto shares = profile_sparsities(state);
  if (!shares.ok()) return std::move(shares).at(class_name()).error();
  std::map<int, double> of_block;
  for (auto entry = profile_.begin(); entry != profile_.end(); ++entry)
    of_block[entry->first] = (*shares)[of_block.size()];
  for (const ModuleInfo& module : state.model.modules) {
    const auto share = of_block.find(module.block);
    if (is_pruned(module) && share != of_block.end()) sparsity_[module.name] = share->second;
  }
  return {};
}

LayerReport pruned_report(ThreadPool& pool, const ModuleWork& work, std::string_view modifier, double signal,
                          double noise) {
  LayerReport report = layer_report(work, modifier, signal, noise);
  const Matrix weight = weight_matrix(pool, work);
  const auto zeros = static_cast<double>(std::ranges::count(weight.values(), 0.0f));
  report.notes.push_back(
      fmt::format("{:.2f} % zeros", 100 * zeros / static_cast<double>(weight.values().size())));
  return report;
}

}  // namespace nibble
