// SPDX-License-Identifier: Apache-2.0
#include "modify/awq_modifier.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "modify/quantization.h"
#include "modify/solver/loss.h"
#include "modify/work_values.h"

namespace nibble {
namespace {

DuoScaling duo_scaling(const RecipeValue& value) {
  if (const bool* flag = value.if_bool()) return *flag ? DuoScaling::kOn : DuoScaling::kOff;
  return DuoScaling::kBoth;
}

const QuantizationArgs* weight_args(const QuantizationScheme* scheme) {
  return scheme && scheme->weights ? &*scheme->weights : nullptr;
}

// The balance layers as the search sees them, with their weights.
struct Balance {
  Balance(ThreadPool& pool, const SmoothWork& work) {
    std::map<std::string, int> siblings;
    for (const ModuleWork* balance : work.balance) weights.push_back(weight_matrix(pool, *balance));
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const ModuleWork& balance = *work.balance[i];
      const std::string key = global_scale_key(*balance.module, balance.scheme);
      const int number = siblings.emplace(key, static_cast<int>(siblings.size())).first->second;
      layers.push_back({&weights[i], weight_args(balance.scheme), number});
    }
  }
  Balance(const Balance&) = delete;
  Balance& operator=(const Balance&) = delete;

  std::vector<Matrix> weights;
  std::vector<BalanceLayer> layers;
};

BalanceLoss judged_loss(const SmoothWork& work, const Balance& balance, SublayerJudge& judge) {
  return [&work, &balance, &judge](std::span<const Matrix> weights) -> Result<double> {
    std::vector<Replacement> replacements;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (balance.layers[i].args) replacements.push_back({work.balance[i]->module, &weights[i]});
    }
    return judge.output_error(work.balance[0]->module->stage, replacements);
  };
}

// The squared error of all outputs over all tokens that each layer saw. Siblings share their Hessian, experts
// have their own.
BalanceLoss exact_loss(const SmoothWork& work, const Balance& balance, ThreadPool& pool) {
  return [&work, &balance, &pool](std::span<const Matrix> weights) -> Result<double> {
    double loss = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const ModuleStatistics* seen = work.balance[i]->statistics;
      if (!balance.layers[i].args || !seen || !seen->hessian) continue;
      loss += static_cast<double>(seen->hessian->tokens) *
              solver::layer_loss(pool, weights[i], balance.weights[i], seen->hessian->values);
    }
    return loss;
  };
}

// Of the first balance layer that saw data; the others have the same input.
const ModuleStatistics* input_statistics(const SmoothWork& work) {
  for (const ModuleWork* balance : work.balance) {
    if (balance->statistics && !balance->statistics->input_abs_mean.empty()) return balance->statistics;
  }
  return nullptr;
}

// The second moments of inputs that were divided by `scales`.
Hessian divided(const Hessian& hessian, std::span<const float> scales) {
  Hessian result = hessian;
  for (std::int64_t r = 0; r < result.cols(); ++r) {
    for (std::int64_t c = 0; c < result.cols(); ++c) {
      result.values.at(r, c) /= scales[static_cast<std::size_t>(r)] * scales[static_cast<std::size_t>(c)];
    }
  }
  return result;
}

// Keeps a weight inside the range whose min-max scales are `params`.
void clamp_to(const QuantParams& params, const QuantizationArgs& args, const UnitGrid& units,
              Matrix& weight) {
  const auto low = static_cast<float>(args.code_min()), high = static_cast<float>(args.code_max());
  for (std::int64_t r = 0; r < weight.rows(); ++r) {
    for (std::int64_t c = 0; c < weight.cols(); ++c) {
      const std::int64_t unit = c / units.unit_cols;
      const float scale = params.scale.at(r, unit);
      const float zero = params.zero_point.empty() ? (low + high) / 2 : params.zero_point.at(r, unit);
      weight.at(r, c) = std::clamp(weight.at(r, c), (low - zero) * scale, (high - zero) * scale);
    }
  }
}

}  // namespace

Result<std::unique_ptr<Modifier>> AwqModifier::make(const ModifierConfig& config) {
  return std::unique_ptr<Modifier>(std::make_unique<AwqModifier>(config));
}

Status AwqModifier::initialize(ModelState& state) {
  model_ = &state.model;
  is_strict_ = state.rules.strict;
  const Arguments& arguments = config().arguments;
  TRY_ASSIGN(candidates_,
             awq_candidates(duo_scaling(arguments.at("duo_scaling")), arguments.integer("n_grid")));
  TRY_ASSIGN(plain_candidates_, awq_candidates(DuoScaling::kOff, arguments.integer("n_grid")));
  SmoothMappings resolved;
  if (const RecipeValue& given = arguments.at("mappings"); given.is_null()) {
    resolved = role_mappings(state.model, MappingFamily::kNormsAndLinears, is_strict_);
  } else {
    std::vector<MappingPatterns> patterns;
    for (const RecipeValue& item : *given.if_list()) {
      const RecipeValue* hook = item.find("activation_hook_target");
      patterns.push_back({.smooth = *item.find("smooth_layer")->if_text(),
                          .balance = item.find("balance_layers")->texts(),
                          .observed = hook && hook->if_text() ? *hook->if_text() : std::string()});
    }
    TRY_ASSIGN(resolved, pattern_mappings(state.model, patterns));
  }
  for (std::string& note : resolved.notes)
    state.matches.warnings.push_back(fmt::format("{}: {}", class_name(), note));
  mappings_ = std::move(resolved.mappings);
  if (!mappings_.empty()) return {};
  return usage_error(
      fmt::format("{} finds no layers that it could scale in {}", class_name(), state.model.architecture),
      "give mappings");
}

bool AwqModifier::has_scheme(const ModelState& state, const SmoothMapping& mapping) const {
  return std::ranges::any_of(mapping.balance,
                             [&](std::size_t m) { return weight_args(state.schemes.at(m)) != nullptr; });
}

bool AwqModifier::asks_judge(const SmoothMapping& mapping) const {
  if (!is_strict_ || mapping.balance.size() < 2) return false;
  const int stage = model_->modules[mapping.balance[0]].stage;
  return std::ranges::all_of(mapping.balance,
                             [&](std::size_t m) { return model_->modules[m].stage == stage; });
}

unsigned AwqModifier::needs(const ModelState& state, const ModuleInfo& module) const {
  const auto index = static_cast<std::size_t>(&module - state.model.modules.data());
  unsigned needed = kNoStatistic;
  for (const SmoothMapping& mapping : mappings_) {
    if (!has_scheme(state, mapping) || std::ranges::find(mapping.balance, index) == mapping.balance.end())
      continue;
    needed |= kInputAbsMean;
    if (asks_judge(mapping)) {
      needed |= kSublayerError;
    } else if (weight_args(state.schemes.at(index))) {
      needed |= kHessian;
    }
  }
  return needed;
}

Status AwqModifier::on_calibration_start(ModelState& state) {
  std::erase_if(mappings_, [&](const SmoothMapping& mapping) { return !has_scheme(state, mapping); });
  if (!mappings_.empty()) return {};
  return usage_error("none of the layers that AWQModifier scales is quantized by a modifier after it",
                     "let a QuantizationModifier or GPTQModifier follow that targets them");
}

Result<AwqChoice> AwqModifier::search(const SmoothMapping& mapping, const SmoothWork& work,
                                      SublayerJudge* judge, ThreadPool& pool) const {
  const Balance balance(pool, work);
  const ModuleStatistics& seen = *input_statistics(work);
  const bool is_grouped = mapping.heads_per_group > 1;
  return awq_search(pool, balance.layers, mean_over_groups(mapping, seen.input_abs_mean),
                    is_grouped ? plain_candidates_ : candidates_, work.balance[0]->weight.dtype(),
                    judge ? judged_loss(work, balance, *judge) : exact_loss(work, balance, pool));
}

Result<LayerReport> AwqModifier::scale(const SmoothMapping& mapping, const SmoothWork& work,
                                       SublayerJudge* judge, ThreadPool& pool) const {
  TRY_ASSIGN(const AwqChoice choice, search(mapping, work, judge, pool));
  TRY(fold_scales(pool, mapping, choice.scales, work));
  LayerReport report = layer_report(*work.smooth, class_name(), 1, 0);
  report.loss = choice.loss;
  report.notes.push_back(
      fmt::format("ratio {:.2f}{}: {:.1f} % of the error without scaling", choice.candidate.ratio,
                  choice.candidate.duo ? " with weights" : "",
                  choice.loss_without > 0 ? 100 * choice.loss / choice.loss_without : 100.0));
  if (config().arguments.flag("clip_search")) {
    for (ModuleWork* balance : work.balance) TRY(clip(*balance, choice.scales, pool));
  }
  return report;
}

// Queries and keys keep their range, as in the paper: their errors meet in a product.
Status AwqModifier::clip(ModuleWork& work, std::span<const float> input_scales, ThreadPool& pool) const {
  const QuantizationArgs* args = weight_args(work.scheme);
  const ModuleRole role = work.module->role;
  if (!args || role == ModuleRole::kQuery || role == ModuleRole::kKey || role == ModuleRole::kQkv) return {};
  if (!work.statistics || !work.statistics->hessian || has_global_scale(work.scheme)) return {};
  Matrix weight = weight_matrix(pool, work);
  const UnitGrid units = unit_grid(*args, weight.rows(), weight.cols());
  if (units.unit_rows > 1) return {};
  const Hessian metric = divided(*work.statistics->hessian, input_scales);
  TRY_ASSIGN(const QuantParams params, awq_clip(pool, weight, metric, *args, work.weight.dtype(), 0, {}));
  clamp_to(params, *args, units, weight);
  store_weight(pool, weight, work);
  return {};
}

Result<std::vector<LayerReport>> AwqModifier::on_sequential_epoch_end(UnitWork& unit, Context& context) {
  std::vector<LayerReport> reports;
  for (const SmoothMapping& mapping : mappings_) {
    const auto start = std::chrono::steady_clock::now();
    TRY_ASSIGN(const SmoothWork work, find_smooth_work(*model_, mapping, unit));
    if (!work) continue;
    if (!input_statistics(work)) {
      reports.push_back(layer_report(*work.smooth, class_name(), 1, 0));
      reports.back().notes.emplace_back("not scaled: no data reached the layers that read it");
      continue;
    }
    CHECK(!asks_judge(mapping) || unit.judge, "a judge was asked for");
    auto report = scale(mapping, work, asks_judge(mapping) ? unit.judge : nullptr, context.pool);
    if (!report.ok()) return std::move(report).at(work.smooth->module->name).error();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    report->seconds = elapsed.count();
    reports.push_back(std::move(report).value());
  }
  return reports;
}

}  // namespace nibble
