// SPDX-License-Identifier: Apache-2.0
#include "modify/quantization.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "calibrate/observers.h"
#include "modify/solver/loss.h"
#include "modify/work_values.h"

namespace nibble {
namespace {

bool needs_range(const std::optional<QuantizationArgs>& args) {
  return args && args->dynamic != Dynamic::kTrue;
}

// Plain min-max, whose scales need no second look at the weight.
bool observes_plainly(const QuantizationArgs& args) {
  return args.observer.value_or("memoryless_minmax").find("minmax") != std::string::npos;
}

bool gets_codes(const ModuleWork& work) {
  return work.scheme && work.scheme->weights;
}

Result<UnitRanges> observe_ranges_of(const ModuleWork& work, ThreadPool& pool) {
  const std::span<const float> importance =
      work.statistics ? std::span(work.statistics->input_square_mean) : std::span<const float>();
  return observe_weight(pool, work.weight, *work.scheme->weights, importance).at(work.module->name);
}

// The largest absolute value among the siblings under each global scale.
std::map<std::string, float> shared_peaks(const UnitWork& unit, const std::vector<UnitRanges>& ranges) {
  std::map<std::string, float> result;
  for (std::size_t i = 0; i < unit.modules.size(); ++i) {
    const ModuleWork& work = unit.modules[i];
    if (!has_global_scale(work.scheme)) continue;
    float& largest = result[global_scale_key(*work.module, work.scheme)];
    for (const float v : ranges[i].min) largest = std::max(largest, -v);
    for (const float v : ranges[i].max) largest = std::max(largest, v);
  }
  return result;
}

Result<WeightParams> params_of(const ModuleWork& work, const UnitRanges& ranges,
                               std::optional<float> global_scale) {
  return params_from_ranges(*work.scheme->weights, work.weight.dtype(), work.weight.dim(0),
                            work.weight.dim(1), ranges, global_scale)
      .at(work.module->name);
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
  is_strict_ = state.rules.strict;
  return initialize_quantization(config(), state);
}

unsigned QuantizationModifier::needs(const ModelState& state, const ModuleInfo& module) const {
  return quantization_needs(state, module);
}

unsigned quantization_needs(const ModelState& state, const ModuleInfo& module) {
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

std::string global_scale_key(const ModuleInfo& module, const QuantizationScheme* scheme) {
  // Names as runtimes know them (compressed-tensors).
  static const std::vector<std::vector<std::string_view>> fused{{"gate_proj", "up_proj"},
                                                                {"q_proj", "k_proj", "v_proj"},
                                                                {"q_a_proj", "kv_a_proj_with_mqa"},
                                                                {"w1", "w3"}};
  const std::size_t dot = module.name.rfind('.');
  if (!has_global_scale(scheme) || dot == std::string::npos) return module.name;
  const std::string_view child = std::string_view(module.name).substr(dot + 1);
  for (const auto& group : fused) {
    if (std::ranges::find(group, child) != group.end())
      return fmt::format("{}.({})", module.name.substr(0, dot), group[0]);
  }
  return module.name;
}

Result<WeightParams> observe_module(const ModuleWork& work, float global_scale, ThreadPool& pool) {
  TRY_ASSIGN(const UnitRanges ranges, observe_ranges_of(work, pool));
  return params_of(work, ranges, global_scale == 0 ? std::nullopt : std::optional(global_scale));
}

Result<std::vector<std::optional<WeightParams>>> observe_unit(const UnitWork& unit, ThreadPool& pool) {
  std::vector<UnitRanges> ranges(unit.modules.size());
  for (std::size_t i = 0; i < unit.modules.size(); ++i) {
    if (!gets_codes(unit.modules[i])) continue;
    TRY_ASSIGN(ranges[i], observe_ranges_of(unit.modules[i], pool));
  }
  const std::map<std::string, float> peaks = shared_peaks(unit, ranges);
  std::vector<std::optional<WeightParams>> params(unit.modules.size());
  for (std::size_t i = 0; i < unit.modules.size(); ++i) {
    const ModuleWork& work = unit.modules[i];
    if (!gets_codes(work)) continue;
    std::optional<float> global_scale;
    if (has_global_scale(work.scheme)) {
      const float peak = peaks.at(global_scale_key(*work.module, work.scheme));
      global_scale = global_scale_of(work.weight.dtype(), -peak, peak);
    }
    TRY_ASSIGN(params[i], params_of(work, ranges[i], global_scale));
  }
  return params;
}

Result<LayerReport> round_module(ModuleWork& work, const std::optional<WeightParams>& params,
                                 std::string_view modifier, ThreadPool& pool) {
  const auto start = std::chrono::steady_clock::now();
  const QuantizationArgs& args = *work.scheme->weights;
  ErrorStats stats;
  auto compressed =
      params ? CompressedWeight::from_weight(pool, work.weight, args, work.format, *params, &stats)
             : CompressedWeight::round_to_nearest(pool, work.weight, args, work.format, std::nullopt, &stats);
  if (!compressed.ok()) return std::move(compressed).at(work.module->name).error();
  work.compressed = std::move(compressed).value();
  const double relative = stats.relative_error();
  LayerReport report = layer_report(work, modifier, 1, relative * relative);
  if (work.statistics && work.statistics->hessian) {
    TRY_ASSIGN(const Tensor rounded, work.compressed->dense(pool));
    const Matrix original = weight_matrix(pool, work);
    Matrix changed(original.rows(), original.cols());
    rounded.decode_f32(0, changed.values());
    const Matrix& hessian = work.statistics->hessian->values;
    report = layer_report(work, modifier, solver::layer_loss(pool, original, Matrix(), hessian),
                          solver::layer_loss(pool, original, changed, hessian));
    report.of_outputs = true;
  } else {
    report.relative_error = relative;
    report.sqnr_db = stats.sqnr_db();
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  report.seconds = elapsed.count();
  return report;
}

Result<std::vector<LayerReport>> QuantizationModifier::on_sequential_epoch_end(UnitWork& unit,
                                                                               Context& context) {
  std::vector<std::optional<WeightParams>> params(unit.modules.size());
  const bool has_plain_scales = std::ranges::all_of(unit.modules, [](const ModuleWork& work) {
    return !gets_codes(work) || (observes_plainly(*work.scheme->weights) && !has_global_scale(work.scheme));
  });
  if (!has_plain_scales) {
    TRY_ASSIGN(params, observe_unit(unit, context.pool));
  }
  std::vector<LayerReport> reports;
  for (std::size_t i = 0; i < unit.modules.size(); ++i) {
    ModuleWork& work = unit.modules[i];
    TRY(store_activation_params(work));
    if (!gets_codes(work)) continue;
    TRY_ASSIGN(LayerReport report, round_module(work, params[i], class_name(), context.pool));
    reports.push_back(std::move(report));
    if (is_strict_ || !work.statistics) continue;
    TRY_ASSIGN(work.weight, work.compressed->dense(context.pool));
  }
  return reports;
}

}  // namespace nibble
