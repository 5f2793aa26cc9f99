// SPDX-License-Identifier: Apache-2.0
#include "modify/quantization.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "modify/weight_observer.h"

namespace nibble {
namespace {

bool needs_range(const std::optional<QuantizationArgs>& args) {
  return args && args->dynamic != Dynamic::kTrue;
}

bool observes_plainly(const QuantizationArgs& args) {
  return args.observer.value_or("memoryless_minmax").find("minmax") != std::string::npos;
}

// G = 2688 / absmax over the ranges of all siblings, in the dtype of the weights.
std::optional<float> shared_global_scale(const UnitWork& unit,
                                         const std::vector<std::optional<UnitRanges>>& ranges) {
  float largest = 0;
  std::optional<DType> dtype;
  for (std::size_t i = 0; i < unit.modules.size(); ++i) {
    if (!ranges[i] || !has_global_scale(unit.modules[i].scheme)) continue;
    dtype = unit.modules[i].weight.dtype();
    for (const float v : ranges[i]->min) largest = std::max(largest, -v);
    for (const float v : ranges[i]->max) largest = std::max(largest, v);
  }
  if (!dtype) return std::nullopt;
  return global_scale_of(*dtype, -largest, largest);
}

// Only where one pass over the weight does not do: searched ranges, and siblings under one global scale.
Result<std::vector<std::optional<UnitRanges>>> observe_unit(const UnitWork& unit, ThreadPool& pool) {
  std::vector<std::optional<UnitRanges>> ranges(unit.modules.size());
  for (std::size_t i = 0; i < unit.modules.size(); ++i) {
    const ModuleWork& work = unit.modules[i];
    if (!work.scheme || !work.scheme->weights) continue;
    if (observes_plainly(*work.scheme->weights) && !has_global_scale(work.scheme)) continue;
    auto observed = observe_weight(pool, work.weight, *work.scheme->weights);
    if (!observed.ok()) return std::move(observed).at(work.module->name).error();
    ranges[i] = std::move(observed).value();
  }
  return ranges;
}

Result<CompressedWeight> round_module(const ModuleWork& work, const std::optional<UnitRanges>& ranges,
                                      std::optional<float> global_scale, ThreadPool& pool,
                                      ErrorStats& stats) {
  const QuantizationArgs& args = *work.scheme->weights;
  if (!ranges)
    return CompressedWeight::round_to_nearest(pool, work.weight, args, work.format, std::nullopt, &stats);
  if (!has_global_scale(work.scheme)) global_scale.reset();
  TRY_ASSIGN(const WeightParams params, params_from_ranges(args, work.weight.dtype(), work.weight.dim(0),
                                                           work.weight.dim(1), *ranges, global_scale));
  return CompressedWeight::from_weight(pool, work.weight, args, work.format, params, &stats);
}

}  // namespace

Result<std::unique_ptr<Modifier>> QuantizationModifier::make(const ModifierConfig& config) {
  if (!has_quantization(config)) {
    return usage_error("QuantizationModifier says nothing to quantize", "give it a scheme or config_groups");
  }
  return std::unique_ptr<Modifier>(std::make_unique<QuantizationModifier>(config));
}

Status initialize_quantization(const ModifierConfig& config, ModelState& state) {
  TRY_ASSIGN(const ResolvedQuantization quantization, resolve_quantization(config));
  TRY(attach_schemes(quantization, state.model, state.rules, state.schemes, state.matches)
          .at(config.class_name()));
  const bool bypass = config.arguments.flag("bypass_divisibility_checks");
  const std::vector<RaggedModule> ragged = ragged_modules(state.model, state.schemes);
  if (ragged.empty()) return {};
  if (state.rules.strict && !bypass) return ragged_error(ragged).add_context(config.class_name());
  state.matches.warnings.push_back(
      fmt::format("{} of {} modules have columns that are not a multiple of group_size: their last group is "
                  "shorter, which other "
                  "runtimes may not read ({}, ...)",
                  ragged.size(), state.schemes.size(), ragged[0].module->name));
  return {};
}

Status QuantizationModifier::initialize(ModelState& state) {
  return initialize_quantization(config(), state);
}

unsigned QuantizationModifier::needs(const ModelState& state, const ModuleInfo& module) const {
  if (module.kind == ModuleKind::kAttention)
    return state.schemes.kv_cache_scheme ? kOutputParams : kNoStatistic;
  const QuantizationScheme* scheme = state.schemes.find(state.model, module);
  if (!scheme) return kNoStatistic;
  unsigned needed = kNoStatistic;
  if (needs_range(scheme->input_activations)) needed |= kInputParams;
  if (needs_range(scheme->output_activations)) needed |= kOutputParams;
  if (scheme->weights && scheme->weights->observer.value_or("").find("imatrix") != std::string::npos) {
    needed |= kInputSquareMean;
  }
  return needed;
}

bool has_global_scale(const QuantizationScheme* scheme) {
  return scheme && scheme->weights && scheme->weights->strategy == Strategy::kTensorGroup;
}

Result<std::vector<LayerReport>> round_unit(UnitWork& unit, std::string_view modifier, ThreadPool& pool) {
  const auto start = std::chrono::steady_clock::now();
  TRY_ASSIGN(const auto ranges, observe_unit(unit, pool));
  const std::optional<float> global_scale = shared_global_scale(unit, ranges);
  std::vector<LayerReport> reports;
  for (std::size_t i = 0; i < unit.modules.size(); ++i) {
    ModuleWork& work = unit.modules[i];
    if (!work.scheme || !work.scheme->weights) continue;
    ErrorStats stats;
    auto compressed = round_module(work, ranges[i], global_scale, pool, stats);
    if (!compressed.ok()) return std::move(compressed).at(work.module->name).error();
    work.compressed = std::move(compressed).value();
    LayerReport report;
    report.module = work.module->name;
    report.modifier = modifier;
    report.relative_error = stats.relative_error();
    report.sqnr_db = stats.sqnr_db();
    reports.push_back(std::move(report));
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  for (LayerReport& report : reports) report.seconds = elapsed.count() / static_cast<double>(reports.size());
  return reports;
}

Result<std::vector<LayerReport>> QuantizationModifier::on_sequential_epoch_end(UnitWork& unit,
                                                                               Context& context) {
  return round_unit(unit, class_name(), context.pool);
}

}  // namespace nibble
