// SPDX-License-Identifier: Apache-2.0
#include "session/gather.h"

#include <fmt/format.h>

#include <algorithm>

namespace nibble {
namespace {

constexpr unsigned kColumnBits = kInputAbsMean | kInputSquareMean | kInputColumnRange;

// Norms whose output is the input of a stage.
int stage_after(ModuleRole role) {
  switch (role) {
    case ModuleRole::kAttentionInputNorm:
      return 0;
    case ModuleRole::kMlpInputNorm:
    case ModuleRole::kAttentionResidualNorm:
      return 2;
    default:
      return -1;
  }
}

// Rows of an input that are kept for those who want to see some.
constexpr std::int64_t kInputSampleRows = 512;

// Odd: sequences are mostly as long as a power of two, and their first tokens are unlike all others.
std::int64_t sample_stride(std::int64_t tokens) {
  return std::max<std::int64_t>((tokens + kInputSampleRows - 1) / kInputSampleRows, 1) | 1;
}

const QuantizationArgs* observed(const std::optional<QuantizationArgs>& args) {
  return args && args->dynamic != Dynamic::kTrue ? &*args : nullptr;
}

Result<std::optional<ActivationParams>> params_of(const ActivationObserver* observer) {
  if (observer == nullptr) return std::optional<ActivationParams>();
  TRY_ASSIGN(ActivationParams params, observer->params());
  return std::optional<ActivationParams>(std::move(params));
}

}  // namespace

const ModuleInfo* reader_of(const ModelDescription& model, const ModuleInfo& norm) {
  const int stage = stage_after(norm.role);
  for (const ModuleInfo& module : model.modules) {
    const bool reads =
        module.kind == ModuleKind::kLinear && module.block == norm.block && module.stage == stage;
    if (norm.kind == ModuleKind::kNorm && stage >= 0 && reads && module.expert < 0) return &module;
  }
  return nullptr;
}

Status Gatherer::want(const ModuleInfo& module, unsigned needs) {
  if (needs == kNoStatistic) return {};
  wants_ |= needs;
  needs_[&module] |= needs;
  const unsigned all = needs_[&module];
  if (module.kind == ModuleKind::kAttention) {
    if (!state_.schemes.kv_cache_scheme || (needs & kOutputParams) == 0) return {};
    outputs_[0] = true;
    return tap_.watch_attention(module.name, *state_.schemes.kv_cache_scheme, config_.head_dim);
  }
  if (module.kind == ModuleKind::kNorm) {
    const int stage = stage_after(module.role);
    if (stage < 0) {
      return failed("the outputs of this norm cannot be observed", "leave it out of the mappings")
          .add_context(fmt::format("module {}", module.name));
    }
    tap_.watch_input(stage, module.rows, {.columns = true});
    return {};
  }
  const QuantizationScheme* scheme = state_.schemes.find(state_.model, module);
  LinearWishes wishes;
  const bool watched = (all & (kColumnBits | kInputSample | kHessian | kInputShift)) != 0;
  const bool wants_sample = keeps_more_ ? watched : (all & kInputSample) != 0;
  wishes.input = {.columns = keeps_more_ ? watched : (all & kColumnBits) != 0,
                  .hessian = (all & kHessian) != 0,
                  .shift = (all & kInputShift) != 0,
                  .compared_sequences = settings_.compared_sequences,
                  .sample_stride = wants_sample ? sample_stride(settings_.tokens) : 0};
  if (scheme != nullptr && (all & kInputParams) != 0) wishes.input_args = observed(scheme->input_activations);
  if (scheme != nullptr && (all & kOutputParams) != 0)
    wishes.output_args = observed(scheme->output_activations);
  wishes.output_columns = (all & kOutputColumnRange) != 0;
  if ((wishes.output_args != nullptr || wishes.output_columns) && module.stage >= 0) {
    outputs_[module.stage] = true;
  }
  return tap_.watch(linear_info(module), wishes).at(fmt::format("module {}", module.name));
}

const InputStatistics* Gatherer::input_of(const ModuleInfo& module) const {
  return module.kind == ModuleKind::kNorm ? tap_.input(stage_after(module.role), -1)
                                          : tap_.input(module.stage, module.expert);
}

Status Gatherer::collect(const ModuleInfo& module, unsigned needs, ModuleStatistics& out) const {
  if (module.kind == ModuleKind::kAttention) {
    TRY_ASSIGN(out.key_params, params_of(tap_.key_observer(module.name)));
    TRY_ASSIGN(out.value_params, params_of(tap_.value_observer(module.name)));
    return {};
  }
  if (const ColumnRange* range = tap_.output_range(module.name)) {
    out.output_column_min = range->min;
    out.output_column_max = range->max;
  }
  const bool is_norm = module.kind == ModuleKind::kNorm;
  const InputStatistics* input = input_of(module);
  if (input != nullptr) {
    out.tokens = input->tokens();
    out.sequences = input->sequences();
    if (is_norm) {
      out.output_column_min = input->column_min();
      out.output_column_max = input->column_max();
      return {};
    }
    if ((needs & kInputAbsMean) != 0) out.input_abs_mean = input->abs_mean();
    if ((needs & kInputSquareMean) != 0) out.input_square_mean = input->square_mean();
    if ((needs & kInputColumnRange) != 0) {
      out.input_column_min = input->column_min();
      out.input_column_max = input->column_max();
    }
    out.hessian = input->hessian();
    if ((needs & kInputSample) != 0) out.input_sample = input->sample();
    out.compared_hessian = input->compared_hessian();
    for (int half = 0; half < InputStatistics::kHalves; ++half)
      out.half_shift[half] = input->half_shift(half);
  }
  if (is_norm) return {};
  TRY_ASSIGN(out.input_params, params_of(tap_.input_observer(module.name)));
  TRY_ASSIGN(out.output_params, params_of(tap_.output_observer(module.name)));
  return {};
}

Status Gatherer::finish() {
  TRY(tap_.finish());
  for (const auto& [module, needs] : needs_) {
    TRY(collect(*module, needs, results_[module]).at(fmt::format("module {}", module->name)));
  }
  return {};
}

const ModuleStatistics* Gatherer::of(const ModuleInfo& module) const {
  const auto found = results_.find(&module);
  return found != results_.end() ? &found->second : nullptr;
}

ModuleStatistics* Gatherer::of(const ModuleInfo& module) {
  const auto found = results_.find(&module);
  return found != results_.end() ? &found->second : nullptr;
}

}  // namespace nibble
