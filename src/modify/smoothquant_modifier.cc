// SPDX-License-Identifier: Apache-2.0
#include "modify/smoothquant_modifier.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "modify/module_pattern.h"
#include "modify/work_values.h"

namespace nibble {
namespace {

// The channels of the smooth layer that the balance layers read (the last of a fused one), in the type that
// its outputs have.
std::vector<float> last_of(const std::vector<float>& values, std::int64_t count, DType dtype) {
  const auto channels = std::span(values).last(static_cast<std::size_t>(count));
  std::vector<float> result(channels.begin(), channels.end());
  for (float& value : result) value = round_to(dtype, value);
  return result;
}

// What SmoothQuant is for, where the recipe does not say what comes after it.
const QuantizationScheme& w8a8() {
  static const QuantizationScheme scheme = *preset_scheme("W8A8");
  return scheme;
}

const QuantizationScheme* rounded_scheme(const QuantizationScheme* scheme) {
  const bool rounds = scheme != nullptr && (scheme->weights || scheme->input_activations);
  return rounds ? scheme : &w8a8();
}

// Floating-point codes round in proportion to each value, whatever the scale: nothing to search for.
bool rounds_uniformly(const SmoothWork& work) {
  return std::ranges::all_of(work.balance, [](const ModuleWork* balance) {
    const QuantizationScheme& scheme = *rounded_scheme(balance->scheme);
    return (!scheme.weights || scheme.weights->type == NumberType::kInt) &&
           (!scheme.input_activations || scheme.input_activations->type == NumberType::kInt);
  });
}

}  // namespace

Result<std::unique_ptr<Modifier>> SmoothQuantModifier::make(const ModifierConfig& config) {
  return std::unique_ptr<Modifier>(std::make_unique<SmoothQuantModifier>(config));
}

Result<SmoothMappings> SmoothQuantModifier::resolve(const ModelState& state) const {
  const RecipeValue& given = config().arguments.at("mappings");
  if (given.is_null()) {
    const auto family = searches() ? MappingFamily::kNormsAndLinears : MappingFamily::kNorms;
    return role_mappings(state.model, family, state.rules.strict);
  }
  std::vector<MappingPatterns> patterns;
  for (const RecipeValue& item : *given.if_list()) {
    const RecipeValue::List& pair = *item.if_list();
    patterns.push_back({.smooth = pair[1].texts()[0], .balance = pair[0].texts()});
  }
  return pattern_mappings(state.model, patterns);
}

Status SmoothQuantModifier::drop_ignored(ModelState& state) {
  const ModelDescription& model = state.model;
  TRY_ASSIGN(const ModuleTargets ignored, ModuleTargets::parse(config().arguments.texts("ignore")));
  TRY(report_counts(count_matches(ignored, true, model), model, state.rules, state.matches));
  const auto is_ignored = [&](std::size_t m) {
    return ignored.matches(model.modules[m].name, classes_of(model.modules[m]));
  };
  std::erase_if(mappings_, [&](const SmoothMapping& mapping) {
    return is_ignored(mapping.smooth) && std::ranges::all_of(mapping.balance, is_ignored);
  });
  return {};
}

Status SmoothQuantModifier::initialize(ModelState& state) {
  model_ = &state.model;
  is_strict_ = state.rules.strict;
  TRY_ASSIGN(SmoothMappings resolved, resolve(state));
  for (std::string& note : resolved.notes)
    state.matches.warnings.push_back(fmt::format("{}: {}", class_name(), note));
  mappings_ = std::move(resolved.mappings);
  TRY(drop_ignored(state));
  if (!mappings_.empty()) return {};
  return usage_error(
      fmt::format("{} finds no norm that it could smooth in {}", class_name(), state.model.architecture),
      "give mappings, or check ignore");
}

// The reference's formulas stay as they are; so do those of logarithmic equalization.
bool SmoothQuantModifier::searches() const {
  const Arguments& arguments = config().arguments;
  return !is_strict_ && arguments.text("algorithm") == "smoothquant" && arguments.flag("scale_search");
}

unsigned SmoothQuantModifier::needs(const ModelState& state, const ModuleInfo& module) const {
  const auto index = static_cast<std::size_t>(&module - state.model.modules.data());
  unsigned needed = kNoStatistic;
  for (const SmoothMapping& mapping : mappings_) {
    // The search looks at inputs; where it cannot, the formula serves norms, as in the reference.
    if (mapping.smooth == index && (!searches() || module.kind == ModuleKind::kNorm))
      needed |= kOutputColumnRange;
    if (!searches() || std::ranges::find(mapping.balance, index) == mapping.balance.end()) continue;
    needed |= kInputSample | kInputSquareMean | kInputColumnRange;
  }
  return needed;
}

bool SmoothQuantModifier::can_search(const SmoothWork& work) const {
  const ModuleStatistics* seen = work.balance[0]->statistics;
  return searches() && seen && seen->input_sample && rounds_uniformly(work);
}

Result<std::vector<float>> SmoothQuantModifier::formula_scales(const SmoothWork& work,
                                                               ThreadPool& pool) const {
  const Arguments& arguments = config().arguments;
  const ModuleStatistics& seen = *work.smooth->statistics;
  const auto statistic =
      arguments.text("smoothing_statistic") == "absmax" ? SmoothStatistic::kAbsMax : SmoothStatistic::kRange;
  const auto algorithm = arguments.text("algorithm") == "log_equalization" ? SmoothAlgorithm::kLogEqualization
                                                                           : SmoothAlgorithm::kSmoothQuant;
  const std::int64_t channels = work.balance[0]->weight.dim(1);
  const DType dtype = is_strict_ ? work.smooth->weight.dtype() : DType::kF32;
  const std::vector<float> activation =
      smooth_activation_scales(last_of(seen.output_column_min, channels, dtype),
                               last_of(seen.output_column_max, channels, dtype), statistic);
  std::vector<Matrix> weights;
  for (const ModuleWork* balance : work.balance) weights.push_back(weight_matrix(pool, *balance));
  std::vector<const Matrix*> pointers;
  for (const Matrix& weight : weights) pointers.push_back(&weight);
  const double strength = arguments.number("smoothing_strength");
  return smooth_scales(activation, smooth_weight_scales(pointers, statistic), strength, algorithm, dtype);
}

SmoothChoice SmoothQuantModifier::searched_scales(const SmoothMapping& mapping, const SmoothWork& work,
                                                  ThreadPool& pool) const {
  const ModuleStatistics& seen = *work.balance[0]->statistics;
  std::vector<float> abs_max(seen.input_column_max.size());
  for (std::size_t c = 0; c < abs_max.size(); ++c)
    abs_max[c] = std::max(std::fabs(seen.input_column_min[c]), std::fabs(seen.input_column_max[c]));
  std::vector<Matrix> weights;
  for (const ModuleWork* balance : work.balance) weights.push_back(weight_matrix(pool, *balance));
  std::vector<SmoothLayer> layers;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const QuantizationScheme* scheme = rounded_scheme(work.balance[i]->scheme);
    layers.push_back({.weight = &weights[i],
                      .weights = scheme->weights ? &*scheme->weights : nullptr,
                      .activations = scheme->input_activations ? &*scheme->input_activations : nullptr});
  }
  const SmoothInputs inputs{
      .sample = seen.input_sample, .abs_max = abs_max, .mean_square = seen.input_square_mean};
  return search_smooth_scales(pool, inputs, layers, [&mapping](std::span<const float> columns) {
    return mean_over_groups(mapping, columns);
  });
}

Result<LayerReport> SmoothQuantModifier::smooth(const SmoothMapping& mapping, const SmoothWork& work,
                                                ThreadPool& pool) const {
  std::vector<float> scales;
  std::vector<std::string> notes;
  if (can_search(work)) {
    SmoothChoice choice = searched_scales(mapping, work, pool);
    scales = std::move(choice.scales);
    notes.push_back(fmt::format("rounding noise of the layers that read it: {:.3g} to {:.3g} of the signal",
                                choice.noise_before, choice.noise_after));
  } else {
    TRY_ASSIGN(scales, formula_scales(work, pool));
  }
  TRY(fold_scales(pool, mapping, scales, work));
  LayerReport report = layer_report(*work.smooth, class_name(), 1, 0);
  const auto [low, high] = std::ranges::minmax(scales);
  report.notes.push_back(fmt::format("scales {:.3g} to {:.3g}", low, high));
  report.notes.insert(report.notes.end(), notes.begin(), notes.end());
  return report;
}

Result<std::vector<LayerReport>> SmoothQuantModifier::on_sequential_epoch_end(UnitWork& unit,
                                                                              Context& context) {
  std::vector<LayerReport> reports;
  for (const SmoothMapping& mapping : mappings_) {
    const auto start = std::chrono::steady_clock::now();
    TRY_ASSIGN(const SmoothWork work, find_smooth_work(*model_, mapping, unit));
    if (!work) continue;
    const ModuleStatistics* seen = work.smooth->statistics;
    const bool has_range = seen && !seen->output_column_min.empty();
    if (!has_range && !can_search(work)) continue;  // experts that no token reached
    auto report = smooth(mapping, work, context.pool);
    if (!report.ok()) return std::move(report).at(work.smooth->module->name).error();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    report->seconds = elapsed.count();
    reports.push_back(std::move(report).value());
  }
  return reports;
}

}  // namespace nibble
