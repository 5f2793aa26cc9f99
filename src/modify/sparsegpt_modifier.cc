// SPDX-License-Identifier: Apache-2.0
#include "modify/sparsegpt_modifier.h"

#include <fmt/format.h>

#include <chrono>
#include <functional>

#include "modify/magnitude.h"
#include "modify/solver/loss.h"
#include "modify/wanda.h"
#include "modify/work_values.h"

namespace nibble {
namespace {

double squares(const Matrix& m) {
  double sum = 0;
  for (const float v : m.values()) sum += static_cast<double>(v) * static_cast<double>(v);
  return sum;
}

// Squared error of the outputs where there is a Hessian, else of the weights.
LayerReport report_against(const Matrix& original, const ModuleWork& work, std::string_view modifier,
                           ThreadPool& pool) {
  const Matrix changed = weight_matrix(pool, work);
  if (work.statistics && work.statistics->hessian) {
    const Matrix& hessian = work.statistics->hessian->values;
    LayerReport report =
        pruned_report(pool, work, modifier, solver::layer_loss(pool, original, Matrix(), hessian),
                      solver::layer_loss(pool, original, changed, hessian));
    report.of_outputs = true;
    return report;
  }
  Matrix difference = original;
  for (std::int64_t i = 0; i < original.rows() * original.cols(); ++i)
    difference.data()[i] -= changed.data()[i];
  return pruned_report(pool, work, modifier, squares(original), squares(difference));
}

Result<LayerReport> prune_by_magnitude(ModuleWork& work, const PrunePattern& pattern,
                                       std::string_view modifier, ThreadPool& pool) {
  const Matrix weight = weight_matrix(pool, work);
  const std::string structure =
      pattern.is_structured() ? fmt::format("{}:{}", pattern.zeros, pattern.group) : "unstructured";
  TRY_ASSIGN(const Matrix keep, magnitude_mask(pool, weight, structure, pattern.sparsity));
  store_weight(pool, masked(weight, keep), work);
  LayerReport report = report_against(weight, work, modifier, pool);
  report.notes.emplace_back("no data reached it: pruned by magnitude");
  return report;
}

// Stores what a solver found for a target, with the bias that goes with it.
LayerReport store_pruned(ModuleWork& work, const LayerTarget& target, const SparsityResult& result,
                         std::string_view modifier, ThreadPool& pool) {
  store_weight(pool, result.weight, work);
  const Matrix stored = weight_matrix(pool, work);
  LayerReport report = pruned_report(pool, work, modifier, target.signal(pool),
                                     target.noise(pool, stored, target.updates_bias()));
  report.of_outputs = true;
  report.loss = result.loss;
  if (target.updates_bias()) store_bias(target.new_bias(bias_values(work), stored), work);
  if (target.strength() > 0)
    report.notes.push_back(fmt::format("target corrected with strength {:.2f}", target.strength()));
  if (result.damping.raises > 0) {
    report.notes.push_back(
        fmt::format("the Hessian could not be factored: damping raised from {} to {} of its mean diagonal",
                    result.damping.requested_frac, result.damping.used_frac));
  }
  return report;
}

using PruneOne = std::function<Result<LayerReport>(ModuleWork& work, const PrunePattern& pattern)>;

// Every module of the unit that has a pattern.
Result<std::vector<LayerReport>> prune_unit(
    UnitWork& unit, const std::function<std::optional<PrunePattern>(const ModuleInfo&)>& pattern_of,
    const PruneOne& prune_one) {
  std::vector<LayerReport> reports;
  for (ModuleWork& work : unit.modules) {
    const std::optional<PrunePattern> pattern = pattern_of(*work.module);
    if (!pattern) continue;
    const auto start = std::chrono::steady_clock::now();
    auto report = prune_one(work, *pattern);
    if (!report.ok()) return std::move(report).at(work.module->name).error();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    report->seconds = elapsed.count();
    reports.push_back(std::move(report).value());
  }
  return reports;
}

}  // namespace

// --- SparseGPT ---

Result<std::unique_ptr<Modifier>> SparseGptModifier::make(const ModifierConfig& config) {
  return std::unique_ptr<Modifier>(std::make_unique<SparseGptModifier>(config));
}

unsigned SparseGptModifier::needs(const ModelState&, const ModuleInfo& module) const {
  return is_pruned(module) ? correction_needs(correction()) : kNoStatistic;
}

Result<LayerReport> SparseGptModifier::prune_module(ModuleWork& work, const PrunePattern& pattern,
                                                    UnitShifts& shifts, ThreadPool& pool) const {
  if (!work.statistics || !work.statistics->hessian)
    return prune_by_magnitude(work, pattern, class_name(), pool);
  const Arguments& arguments = config().arguments;
  TRY_ASSIGN(const LayerTarget target, LayerTarget::make(pool, work, correction(), shifts));
  PruneOptions options;
  options.pattern = pattern;
  options.dampening_frac = correction().dampening_frac;
  options.block_size = arguments.integer("block_size");
  options.preserve_sparsity_mask =
      arguments.flag("preserve_sparsity_mask") || (!is_strict() && has_earlier_mask(*work.module));
  if (is_strict()) {
    TRY_ASSIGN(const SparsityResult result,
               sparsegpt_reference(pool, target.original(), *work.statistics->hessian, options));
    return store_pruned(work, target, result, class_name(), pool);
  }
  const Matrix allowed = options.preserve_sparsity_mask ? nonzero_mask(target.original()) : Matrix();
  if (!allowed.empty()) options.allowed = &allowed;
  options.mask_iterations = static_cast<int>(arguments.integer("mask_iterations"));
  options.solve_iterations = static_cast<int>(arguments.integer("solve_iterations"));
  TRY_ASSIGN(const SparsityResult result, prune(pool, target.weight(), target.metric(), options));
  return store_pruned(work, target, result, class_name(), pool);
}

Result<std::vector<LayerReport>> SparseGptModifier::on_sequential_epoch_end(UnitWork& unit,
                                                                            Context& context) {
  UnitShifts shifts(unit);
  return prune_unit(
      unit, [&](const ModuleInfo& module) { return pattern_of(module); },
      [&](ModuleWork& work, const PrunePattern& pattern) {
        return prune_module(work, pattern, shifts, context.pool);
      });
}

// --- Wanda ---

Result<std::unique_ptr<Modifier>> WandaPruningModifier::make(const ModifierConfig& config) {
  return std::unique_ptr<Modifier>(std::make_unique<WandaPruningModifier>(config));
}

unsigned WandaPruningModifier::needs(const ModelState&, const ModuleInfo& module) const {
  if (!is_pruned(module)) return kNoStatistic;
  if (is_strict()) return kInputSquareMean;
  const Arguments& arguments = config().arguments;
  const bool solves = arguments.integer("mask_swaps") > 0 || arguments.integer("solve_iterations") > 0 ||
                      correction().target || (correction().bias && !module.bias.empty());
  return kInputSquareMean | (solves ? correction_needs(correction()) : kNoStatistic);
}

Result<LayerReport> WandaPruningModifier::prune_plainly(ModuleWork& work, const PrunePattern& pattern,
                                                        ThreadPool& pool) const {
  const Matrix weight = weight_matrix(pool, work);
  TRY_ASSIGN(const Matrix keep, wanda_mask(pool, weight, work.statistics->input_square_mean, pattern));
  store_weight(pool, masked(weight, keep), work);
  return report_against(weight, work, class_name(), pool);
}

Result<LayerReport> WandaPruningModifier::prune_well(ModuleWork& work, const PrunePattern& pattern,
                                                     UnitShifts& shifts, ThreadPool& pool) const {
  const Arguments& arguments = config().arguments;
  TRY_ASSIGN(const LayerTarget target, LayerTarget::make(pool, work, correction(), shifts));
  // Weights that are zero in the original go first, also where the shifted target has others there.
  Matrix scored = target.weight();
  if (has_earlier_mask(*work.module)) scored = masked(scored, nonzero_mask(target.original()));
  TRY_ASSIGN(Matrix keep, wanda_mask(pool, scored, work.statistics->input_square_mean, pattern));
  const auto swaps = static_cast<int>(arguments.integer("mask_swaps"));
  if (swaps > 0) improve_mask(pool, scored, target.metric().values, pattern, {.swaps_per_row = swaps}, keep);
  PruneOptions options;
  options.pattern = pattern;
  options.dampening_frac = correction().dampening_frac;
  options.mask = &keep;
  options.solve_iterations = static_cast<int>(arguments.integer("solve_iterations"));
  SparsityResult result{.weight = masked(scored, keep), .keep = {}, .loss = 0, .damping = {}};
  if (options.solve_iterations > 0) {
    TRY_ASSIGN(result, prune(pool, target.weight(), target.metric(), options));
  } else {
    result.loss = solver::layer_loss(pool, result.weight, target.weight(), target.metric().values);
  }
  return store_pruned(work, target, result, class_name(), pool);
}

Result<std::vector<LayerReport>> WandaPruningModifier::on_sequential_epoch_end(UnitWork& unit,
                                                                               Context& context) {
  UnitShifts shifts(unit);
  return prune_unit(
      unit, [&](const ModuleInfo& module) { return pattern_of(module); },
      [&](ModuleWork& work, const PrunePattern& pattern) {
        if (!work.statistics || work.statistics->input_square_mean.empty())
          return prune_by_magnitude(work, pattern, class_name(), context.pool);
        const bool solves = !is_strict() && work.statistics->hessian;
        return solves ? prune_well(work, pattern, shifts, context.pool)
                      : prune_plainly(work, pattern, context.pool);
      });
}

}  // namespace nibble
