// SPDX-License-Identifier: Apache-2.0
#include "modify/gptq_modifier.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "codec/compressed_weight.h"
#include "modify/quantization.h"
#include "modify/solver/mask.h"
#include "modify/solver/stored.h"
#include "modify/work_values.h"

namespace nibble {
namespace {

// A weight with this share of zeros was pruned by whoever made the checkpoint: grids of 4 bits and more,
// which dequantized checkpoints come from, leave less.
constexpr double kPrunedShare = 0.25;

std::optional<std::string> damping_note(const solver::Damping& damping) {
  if (damping.raises == 0) return std::nullopt;
  return fmt::format("the Hessian could not be factored: damping raised from {} to {} of its mean diagonal",
                     damping.requested_frac, damping.used_frac);
}

bool has_hessian(const ModuleWork& work) {
  return work.module->kind == ModuleKind::kLinear && work.statistics && work.statistics->hessian;
}

}  // namespace

Result<std::unique_ptr<Modifier>> GptqModifier::make(const ModifierConfig& config) {
  return std::unique_ptr<Modifier>(std::make_unique<GptqModifier>(config));
}

Status GptqModifier::initialize(ModelState& state) {
  is_strict_ = state.rules.strict;
  correction_ = correction_options(config().arguments, is_strict_);
  pruned_ = state.pruned;
  return initialize_quantization(config(), state);
}

unsigned GptqModifier::needs(const ModelState& state, const ModuleInfo& module) const {
  const unsigned needed = quantization_needs(state, module);
  const QuantizationScheme* scheme = state.schemes.find(state.model, module);
  if (!scheme || !scheme->weights || module.kind != ModuleKind::kLinear) return needed;
  return needed | correction_needs(correction_);
}

bool GptqModifier::keeps_zeros(const ModuleWork& work, const Matrix& weight) const {
  const RecipeValue& wanted = config().arguments.at("preserve_sparsity_mask");
  if (const bool* flag = wanted.if_bool()) return *flag;
  return pruned_.contains(work.module->name) || zero_share(weight) >= kPrunedShare;
}

Result<GptqResult> GptqModifier::solve_strict(const ModuleWork& work, const LayerTarget& target,
                                              const QuantParams& observed, ThreadPool& pool) const {
  const QuantizationArgs& args = *work.scheme->weights;
  const DType dtype = work.weight.dtype();
  GptqReferenceOptions options;
  options.block_size = config().arguments.integer("block_size");
  options.dampening_frac = correction_.dampening_frac;
  options.model_dtype = dtype;
  options.observe = [&](const Matrix& permuted) -> Result<QuantParams> {
    ModuleWork turned = work;
    turned.weight = Tensor::from_f32(dtype, work.weight.shape(), permuted.values());
    TRY_ASSIGN(const WeightParams params, observe_module(turned, observed.global_scale, pool));
    return solver_params(params, args, permuted.rows(), permuted.cols());
  };
  return gptq_reference(pool, target.original(), *work.statistics->hessian, args, observed, options);
}

Result<GptqResult> GptqModifier::solve_own(const ModuleWork& work, const LayerTarget& target,
                                           const QuantParams& observed, const Matrix* keep,
                                           GptqMetrics& metrics, ThreadPool& pool) const {
  const Arguments& arguments = config().arguments;
  GptqOptions options;
  options.dampening_frac = correction_.dampening_frac;
  options.model_dtype = work.weight.dtype();
  options.global_scale = observed.global_scale;
  options.block_size = arguments.integer("block_size");
  options.order = arguments.text("column_order") == "natural" ? ColumnOrder::kNatural : ColumnOrder::kGroups;
  options.search_scales = arguments.flag("scale_search");
  if (!options.search_scales) options.params = &observed;
  options.refine.rounds = static_cast<int>(arguments.integer("refine_rounds"));
  options.magr_strength = arguments.number("magr");
  options.keep = keep;
  // A centred metric is the module's own.
  GptqMetrics* const shared = target.updates_bias() ? nullptr : &metrics;
  return gptq(pool, target.weight(), target.metric(), *work.scheme->weights, options, shared);
}

// Under strict rules the codes are made from the stored weight, as the reference does at save.
Status GptqModifier::store(ModuleWork& work, const GptqResult& result, const WeightParams& observed,
                           ThreadPool& pool) const {
  const QuantizationArgs& args = *work.scheme->weights;
  const std::int64_t rows = result.weight.rows(), cols = result.weight.cols();
  const WeightParams params =
      is_strict_ && result.group_index.empty()
          ? observed
          : stored_params(result.params, args, work.weight.dtype(), rows, cols, result.group_index);
  store_weight(pool, result.weight, work);
  if (is_strict_ || work.format == CompressionFormat::kDense) {
    TRY_ASSIGN(work.compressed, CompressedWeight::from_weight(pool, work.weight, args, work.format, params));
  } else {
    TRY_ASSIGN(work.compressed, CompressedWeight::from_codes(pool, stored_codes(result.codes, args), args,
                                                             work.format, work.weight.dtype(), params));
  }
  return {};
}

Result<LayerReport> GptqModifier::compress(ModuleWork& work, const WeightParams& observed, Shared& shared,
                                           ThreadPool& pool) const {
  const auto start = std::chrono::steady_clock::now();
  const QuantizationArgs& args = *work.scheme->weights;
  TRY_ASSIGN(const LayerTarget target, LayerTarget::make(pool, work, correction_, shared.shifts));
  const Matrix& weight = target.original();
  const QuantParams params = solver_params(observed, args, weight.rows(), weight.cols());
  const bool keeps = !is_strict_ && keeps_zeros(work, weight);
  const Matrix keep = keeps ? nonzero_mask(weight) : Matrix();
  TRY_ASSIGN(const GptqResult result,
             is_strict_ ? solve_strict(work, target, params, pool)
                        : solve_own(work, target, params, keeps ? &keep : nullptr, shared.metrics, pool));
  TRY_ASSIGN(const Tensor nearest, simulate_weight(pool, work.weight, args, observed));
  Matrix rounded(weight.rows(), weight.cols());
  nearest.decode_f32(0, rounded.values());

  TRY(store(work, result, observed, pool));
  const double signal = target.signal(pool);
  // Our own loss is the error of the outputs already; the reference's is one of its recursion.
  const double noise = is_strict_ ? target.noise(pool, weight_matrix(pool, work), false) : result.loss;
  LayerReport report = layer_report(work, class_name(), signal, noise);
  report.of_outputs = true;
  report.rtn_relative_error = relative_error(signal, target.noise(pool, rounded, false));
  report.loss = result.loss;
  if (const auto note = damping_note(result.damping)) report.notes.push_back(*note);
  if (target.strength() > 0)
    report.notes.push_back(fmt::format("target corrected with strength {:.2f}", target.strength()));
  if (keeps) report.notes.push_back("zeros kept");
  if (target.updates_bias()) store_bias(target.new_bias(bias_values(work), weight_matrix(pool, work)), work);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  report.seconds = elapsed.count();
  return report;
}

Result<std::vector<LayerReport>> GptqModifier::on_sequential_epoch_end(UnitWork& unit, Context& context) {
  TRY_ASSIGN(const auto observed, observe_unit(unit, context.pool));
  Shared shared{.shifts = UnitShifts(unit), .metrics = {}};
  std::vector<LayerReport> reports;
  for (std::size_t i = 0; i < unit.modules.size(); ++i) {
    ModuleWork& work = unit.modules[i];
    TRY(store_activation_params(work));
    if (!observed[i]) continue;
    if (has_hessian(work)) {
      auto report = compress(work, *observed[i], shared, context.pool);
      if (!report.ok()) return std::move(report).at(work.module->name).error();
      reports.push_back(std::move(report).value());
      continue;
    }
    // The reference leaves embeddings uninitialised and fails on linears without data.
    TRY_ASSIGN(LayerReport report, round_module(work, *observed[i], class_name(), context.pool));
    report.notes.emplace_back(work.module->kind == ModuleKind::kLinear
                                  ? "no data reached it: rounded to nearest"
                                  : "rounded to nearest: there is no input to compensate for");
    reports.push_back(std::move(report));
  }
  return reports;
}

}  // namespace nibble
