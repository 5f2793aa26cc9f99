// SPDX-License-Identifier: Apache-2.0
// Rounding: fields, defaults and allowed values as in llm-compressor 0.14, and our own.
#include "modify/modifier_rows.h"

#include "modify/field_rules.h"

namespace nibble::modifier_rows {
namespace {

using namespace field_rules;  // NOLINT: the rules are the vocabulary of these rows

Rows quantization_rows() {
  constexpr unsigned kName = kTextKind | kNullKind;
  return {
      {.name = "config_groups",
       .kinds = kMapKind | kNullKind,
       .help = "map of groups: targets and arguments",
       .normalise = full_groups},
      {.name = "targets",
       .kinds = kTextListKind,
       .initial = RecipeValue::text_list({"Linear"}),
       .help = "modules for `scheme`: names, re: patterns or classes",
       .normalise = list_of_texts},
      {.name = "ignore",
       .kinds = kTextListKind,
       .initial = RecipeValue::List{},
       .help = "modules left alone: names, re: patterns or classes",
       .normalise = list_of_texts},
      {.name = "scheme",
       .kinds = kTextKind | kMapKind | kNullKind,
       .help = "preset, or map of presets to targets",
       .normalise = preset_names_only},
      {.name = "kv_cache_scheme",
       .kinds = kMapKind | kNullKind,
       .help = "arguments for keys and values",
       .normalise = full_kv_args},
      {.name = "weight_observer",
       .kinds = kName,
       .help = "observer of weights in every group",
       .normalise = known_observer},
      {.name = "input_observer",
       .kinds = kName,
       .help = "observer of inputs in every group",
       .normalise = known_observer},
      {.name = "output_observer",
       .kinds = kName,
       .help = "observer of outputs in every group",
       .normalise = known_observer},
      {.name = "observer",
       .kinds = kMapKind | kNullKind,
       .help = "the three observers as one map",
       .normalise = observer_map},
      {.name = "bypass_divisibility_checks",
       .kinds = kBoolKind,
       .initial = false,
       .help = "allow a last group that is not full"},
  };
}

Rows gptq_rows() {
  return Rows{
      {.name = "actorder",
       .kinds = kTextKind | kNullKind,
       .initial = "static",
       .help = "order of columns by activation; null: file order",
       .allowed = {"static", "weight"}},
      {.name = "batched_quantization",
       .kinds = kIntKind | kTextKind | kNullKind,
       .initial = "auto",
       .help = "no effect on the result",
       .allowed = {"auto"},
       .least = 1},
      {.name = "offload_hessians",
       .kinds = kBoolKind,
       .help = "memory follows the budget of the run",
       .use = FieldUse::kLeftover},
      {.name = "sequential_update",
       .kinds = kBoolKind | kNullKind,
       .help = "the pipeline decides",
       .use = FieldUse::kLeftover},
      {.name = "scale_search",
       .kinds = kBoolKind,
       .initial = true,
       .help = "scales searched at group entry by the loss that follows",
       .use = FieldUse::kOwn},
      {.name = "column_order",
       .kinds = kTextKind,
       .initial = "groups",
       .help = "order of columns: whole groups by activation, or file order",
       .allowed = {"groups", "natural"},
       .use = FieldUse::kOwn},
      {.name = "refine_rounds",
       .kinds = kIntKind,
       .initial = 1,
       .help = "rounds of coordinate descent and scale refit; 0: off",
       .least = 0,
       .most = 100,
       .use = FieldUse::kOwn},
      {.name = "magr",
       .kinds = kFloatKind,
       .initial = 0.0,
       .help = "strength of magnitude reduction before rounding; 0: off",
       .least = 0,
       .most = 1,
       .use = FieldUse::kOwn},
      {.name = "preserve_sparsity_mask",
       .kinds = kBoolKind | kNullKind,
       .help = "zeros stay zero; null: in weights that were pruned",
       .use = FieldUse::kOwn},
  };
}

Rows autoround_rows() {
  return {
      {.name = "iters", .kinds = kIntKind, .initial = 200, .help = "steps per block", .least = 0},
      {.name = "enable_torch_compile", .kinds = kBoolKind, .initial = true, .help = "no effect"},
      {.name = "batch_size", .kinds = kIntKind, .initial = 8, .help = "sequences per step", .least = 1},
      {.name = "lr", .kinds = kFloatKind | kNullKind, .help = "step size; null: 1 / iters"},
      {.name = "device_ids", .kinds = kTextKind | kNullKind, .help = "no effect"},
      {.name = "disable_opt_rtn", .kinds = kBoolKind, .initial = false, .help = "plain rounding at iters 0"},
  };
}

}  // namespace

std::vector<ModifierRow> quantization_modifiers() {
  return {
      {"QuantizationModifier", "round to nearest, with activations calibrated where they are static",
       quantization_rows() + common_rows(false), true, check_quantization},
      {"GPTQModifier", "error-compensated rounding with second-order statistics",
       quantization_rows() + common_rows(true) + hessian_rows() + gptq_rows() + correction_rows(true), true,
       check_quantization},
  };
}

std::vector<ModifierRow> learned_modifiers() {
  return {
      {"AutoRoundModifier", "learned rounding", quantization_rows() + common_rows(true) + autoround_rows(),
       true, check_quantization},
  };
}

}  // namespace nibble::modifier_rows
