// SPDX-License-Identifier: Apache-2.0
#include "modify/magnitude_modifier.h"

#include <chrono>

#include "modify/magnitude.h"
#include "modify/wanda.h"
#include "modify/work_values.h"

namespace nibble {
namespace {

// Names of the linears that the targets of a recipe mean; older recipes have words for sets of them.
Result<std::vector<std::string>> targeted_linears(const ModifierConfig& config, ModelState& state) {
  std::vector<std::string> targets;
  for (const std::string& text : config.arguments.texts("targets")) {
    if (text == "__ALL__") {
      return usage_error("the target __ALL__ would prune norms and embeddings",
                         "use __ALL_PRUNABLE__, or name the layers");
    }
    if (text == "__ALL_PRUNABLE__" || text == "__ALL_QUANTIZABLE__") {
      targets.insert(targets.end(), {"Linear", "Conv1D"});
    } else {
      targets.push_back(text);
    }
  }
  auto found = prune_targets(state, targets, {});
  if (!found.ok()) return std::move(found).at(config.class_name()).error();
  std::vector<std::string> names;
  for (const PrunedModule& pruned : found->modules) names.push_back(state.model.modules[pruned.module].name);
  return names;
}

}  // namespace

Result<std::unique_ptr<Modifier>> MagnitudePruningModifier::make(const ModifierConfig& config) {
  return std::unique_ptr<Modifier>(std::make_unique<MagnitudePruningModifier>(config));
}

Status MagnitudePruningModifier::initialize(ModelState& state) {
  if (config().arguments.flag("apply_globally")) {
    return usage_error("MagnitudePruningModifier: apply_globally is not supported, as in the reference",
                       "leave it out: every layer gets final_sparsity");
  }
  TRY_ASSIGN(const std::vector<std::string> names, targeted_linears(config(), state));
  targets_.insert(names.begin(), names.end());
  state.pruned.insert(names.begin(), names.end());
  return {};
}

Result<std::vector<LayerReport>> MagnitudePruningModifier::on_sequential_epoch_end(UnitWork& unit,
                                                                                   Context& context) {
  std::vector<LayerReport> reports;
  for (ModuleWork& work : unit.modules) {
    if (!targets_.contains(work.module->name)) continue;
    const auto start = std::chrono::steady_clock::now();
    const Matrix weight = weight_matrix(context.pool, work);
    auto keep = magnitude_mask(context.pool, weight, config().arguments.text("mask_structure"),
                               config().arguments.number("final_sparsity"));
    if (!keep.ok()) return std::move(keep).at(work.module->name).error();
    store_weight(context.pool, masked(weight, *keep), work);
    double signal = 0, noise = 0;
    for (std::int64_t i = 0; i < weight.rows() * weight.cols(); ++i) {
      const double square = static_cast<double>(weight.data()[i]) * static_cast<double>(weight.data()[i]);
      signal += square;
      if (keep->data()[i] == 0) noise += square;
    }
    reports.push_back(pruned_report(context.pool, work, class_name(), signal, noise));
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    reports.back().seconds = elapsed.count();
  }
  return reports;
}

// Whole rows, columns and blocks are left to the data: how many weights the last unit has is not counted
// here.
std::optional<PlannedMask> MagnitudePruningModifier::planned_mask(const ModuleInfo& module) const {
  if (!targets_.contains(module.name)) return std::nullopt;
  const std::string structure = config().arguments.text("mask_structure");
  const double sparsity = config().arguments.number("final_sparsity");
  if (structure == "unstructured") return PlannedMask{MaskOrigin::kRecipe, {.sparsity = sparsity}};
  const Result<PrunePattern> pattern = parse_mask_structure(structure, sparsity);
  if (!pattern.ok()) return PlannedMask{.origin = MaskOrigin::kData};
  return PlannedMask{MaskOrigin::kRecipe, *pattern};
}

Result<std::unique_ptr<Modifier>> ConstantPruningModifier::make(const ModifierConfig& config) {
  return std::unique_ptr<Modifier>(std::make_unique<ConstantPruningModifier>(config));
}

Status ConstantPruningModifier::initialize(ModelState& state) {
  TRY_ASSIGN(const std::vector<std::string> names, targeted_linears(config(), state));
  targets_.insert(names.begin(), names.end());
  state.pruned.insert(names.begin(), names.end());
  return {};
}

Result<std::vector<LayerReport>> ConstantPruningModifier::on_sequential_epoch_end(UnitWork&, Context&) {
  return std::vector<LayerReport>();
}

std::optional<PlannedMask> ConstantPruningModifier::planned_mask(const ModuleInfo& module) const {
  if (!targets_.contains(module.name)) return std::nullopt;
  return PlannedMask{.origin = MaskOrigin::kSource};
}

}  // namespace nibble
