// SPDX-License-Identifier: Apache-2.0
// Every modifier class a recipe may name, with all its fields, defaults and allowed values, as in
// llm-compressor 0.14. One row a class; the order of fields is that of
// recipe.yaml.
#include <fmt/format.h>

#include "base/suggest.h"
#include "modify/field_rules.h"
#include "modify/modifier_config.h"

namespace nibble {
namespace {

using namespace field_rules;  // NOLINT: the rules are the vocabulary of this table
using Rows = std::vector<FieldRow>;

Rows operator+(Rows a, const Rows& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// --- groups of fields that classes share ---

FieldRow calibration_row(bool needs_data) {
  return {.name = "requires_calibration_data",
          .kinds = kBoolKind,
          .initial = needs_data,
          .help = "the modifier needs forward passes over data"};
}

Rows common_rows(bool needs_data) {
  constexpr unsigned kStep = kFloatKind | kNullKind;
  return {calibration_row(needs_data),
          {.name = "index", .kinds = kIntKind | kNullKind, .help = "place among the modifiers"},
          {.name = "start", .kinds = kStep, .help = "first training step (fine-tuning)"},
          {.name = "end", .kinds = kStep, .help = "last training step (fine-tuning)"},
          {.name = "update", .kinds = kStep, .help = "training steps between updates (fine-tuning)"}};
}

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

Rows sparsity_rows(int solve_iterations) {
  return {
      {.name = "sparsity",
       .kinds = kFloatKind | kFloatListKind | kMapKind | kNullKind,
       .help = "share of zeros: of all, a list (one value a target), or a map from patterns (nibble only)",
       .required = true,
       .least = 0,
       .most = 1},
      {.name = "sparsity_profile",
       .kinds = kTextKind | kNullKind,
       .help = "how sparsity is spread over layers: by outliers (owl), or by what pruning each layer alone "
               "does to "
               "the predictions (kl, nibble only)",
       .allowed = {"owl", "kl"},
       .normalise = lower_case},
      {.name = "mask_structure",
       .kinds = kTextKind,
       .initial = "0:0",
       .help = "N:M, or 0:0 for none",
       .normalise = mask_structure},
      {.name = "owl_m",
       .kinds = kIntKind | kNullKind,
       .help = "OWL: outliers are this many times the mean",
       .least = 1},
      {.name = "owl_lmbda",
       .kinds = kFloatKind | kNullKind,
       .help = "OWL: largest deviation from `sparsity`",
       .least = 0,
       .most = 1},
      {.name = "sequential_update",
       .kinds = kBoolKind | kNullKind,
       .initial = false,
       .help = "no effect (old recipes)"},
      {.name = "targets",
       .kinds = kTextKind | kTextListKind,
       .initial = RecipeValue::text_list({"Linear"}),
       .help = "modules, or layers whose linears are pruned"},
      {.name = "ignore",
       .kinds = kTextListKind,
       .initial = RecipeValue::List{},
       .help = "modules left alone",
       .normalise = list_of_texts},
      {.name = "dlp_alpha",
       .kinds = kFloatKind | kNullKind,
       .help = "spread sparsity by the medians of layers (DLP): largest deviation from `sparsity`",
       .least = 0,
       .most = 1,
       .use = FieldUse::kOwn},
      {.name = "kl_lmbda",
       .kinds = kFloatKind,
       .initial = 0.08,
       .help = "sparsity_profile kl: largest deviation from `sparsity`",
       .least = 0,
       .most = 1,
       .use = FieldUse::kOwn},
      {.name = "solve_iterations",
       .kinds = kIntKind,
       .initial = solve_iterations,
       .help = "of least squares on the kept weights; 0: off",
       .least = 0,
       .most = 1000,
       .use = FieldUse::kOwn},
      {.name = "sequential_targets",
       .kinds = kTextListKind | kNullKind,
       .help = "older name of targets",
       .use = FieldUse::kAlias,
       .alias_of = "targets"},
  };
}

Rows hessian_rows() {
  return {
      {.name = "block_size",
       .kinds = kIntKind,
       .initial = 128,
       .help = "columns per lazy update",
       .least = 1},
      {.name = "dampening_frac",
       .kinds = kFloatKind | kNullKind,
       .initial = 0.01,
       .help = "share of the mean diagonal added to the Hessian",
       .least = 0},
  };
}

Rows rotation_rows(std::vector<std::string> rotations, std::vector<std::string> initial, const char* type,
                   Result<RecipeValue> (*normalise)(const RecipeValue&)) {
  return {
      {.name = "rotations",
       .kinds = kTextListKind,
       .initial = RecipeValue::text_list(initial),
       .help = "which rotations",
       .allowed = std::move(rotations),
       .normalise = normalise},
      {.name = "transform_type",
       .kinds = kTextKind,
       .initial = type,
       .help = "kind of matrix",
       .allowed = {"hadamard", "random-hadamard", "random-matrix"}},
  };
}

Rows rotation_tail() {
  return {
      {.name = "randomize",
       .kinds = kBoolKind,
       .initial = false,
       .help = "not supported",
       .normalise = not_true},
      {.name = "learnable",
       .kinds = kBoolKind,
       .initial = false,
       .help = "not supported",
       .normalise = not_true},
      {.name = "precision",
       .kinds = kTextKind,
       .initial = "torch.float64",
       .help = "type of the folding",
       .normalise = float_dtype},
      {.name = "transform_block_size",
       .kinds = kIntKind | kNullKind,
       .help = "block-diagonal matrices of this size",
       .least = 1},
  };
}

FieldRow transform_config_row() {
  return {.name = "transform_config", .kinds = kMapKind | kNullKind, .help = "explicit transforms"};
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

// What error-compensating solvers share beyond the reference.
Rows correction_rows(bool corrects_target) {
  return {
      {.name = "target_correction",
       .kinds = kBoolKind | kFloatKind,
       .initial = corrects_target,
       .help = "aim at the outputs of the original model: true (strength judged on held-out sequences), "
               "false, or a strength",
       .least = 0,
       .most = 1,
       .use = FieldUse::kOwn},
      {.name = "bias_correction",
       .kinds = kBoolKind,
       .initial = true,
       .help = "where a bias exists: centred statistics, then the bias that keeps the mean output",
       .use = FieldUse::kOwn},
  };
}

Rows smooth_rows(const char* algorithm) {
  return {
      {.name = "smoothing_strength",
       .kinds = kFloatKind,
       .initial = 0.5,
       .help = "share of the range moved to weights",
       .least = 0,
       .most = 1},
      {.name = "mappings",
       .kinds = kListKind | kNullKind,
       .help = "[[balance layers], smooth layer] pairs; null: inferred",
       .normalise = smooth_mappings},
      {.name = "ignore",
       .kinds = kTextListKind | kNullKind,
       .help = "modules left alone",
       .normalise = list_of_texts},
      {.name = "num_calibration_steps", .kinds = kIntKind | kNullKind, .help = "no effect (old recipes)"},
      {.name = "calibration_function", .kinds = kTextKind | kNullKind, .help = "no effect (old recipes)"},
      {.name = "algorithm",
       .kinds = kTextKind,
       .initial = algorithm,
       .help = "formula of the scales",
       .allowed = {"smoothquant", "log_equalization"}},
      {.name = "smoothing_statistic",
       .kinds = kTextKind,
       .initial = "range",
       .help = "of channels: largest minus smallest value, or largest absolute value (the paper's)",
       .allowed = {"range", "absmax"},
       .use = FieldUse::kOwn},
  };
}

Rows magnitude_rows() {
  return {
      {.name = "targets",
       .kinds = kTextKind | kTextListKind,
       .help = "parameters to prune",
       .required = true},
      {.name = "init_sparsity",
       .kinds = kFloatKind,
       .help = "share of zeros at `start`",
       .required = true,
       .least = 0,
       .most = 1},
      {.name = "final_sparsity",
       .kinds = kFloatKind,
       .help = "share of zeros at `end`",
       .required = true,
       .least = 0,
       .most = 1},
      {.name = "update_scheduler",
       .kinds = kTextKind,
       .initial = "cubic",
       .help = "path from first to last sparsity"},
      {.name = "scheduler_args",
       .kinds = kMapKind,
       .initial = RecipeValue::Map{},
       .help = "arguments of the path"},
      {.name = "mask_structure",
       .kinds = kTextKind,
       .initial = "unstructured",
       .help = "unstructured, or N:M"},
      {.name = "leave_enabled",
       .kinds = kBoolKind,
       .initial = false,
       .help = "no effect (old recipes)",
       .normalise = always_false},
      {.name = "apply_globally",
       .kinds = kBoolKind,
       .initial = false,
       .help = "one threshold for all targets"},
  };
}

Rows awq_rows() {
  return {
      {.name = "mappings",
       .kinds = kListKind | kNullKind,
       .help = "maps of smooth_layer and balance_layers; null: from the architecture",
       .normalise = awq_mappings},
      {.name = "offload_device",
       .kinds = kTextKind | kNullKind,
       .initial = "not_provided",
       .help = "no effect: memory follows the budget of the run"},
      {.name = "duo_scaling",
       .kinds = kBoolKind | kTextKind,
       .initial = true,
       .help = "weights take part in the scales",
       .allowed = {"both"}},
      {.name = "n_grid", .kinds = kIntKind, .initial = 20, .help = "points of the search", .least = 2},
      {.name = "clip_search",
       .kinds = kBoolKind,
       .initial = false,
       .help = "after scaling, narrower ranges where they lower the error of rounding",
       .use = FieldUse::kOwn},
  };
}

Rows permutation_rows() {
  return {
      {.name = "mask_structure",
       .kinds = kTextKind,
       .initial = "2:4",
       .help = "N:M of the pruning modifier that follows",
       .normalise = mask_structure},
      {.name = "rounds",
       .kinds = kIntKind,
       .initial = 10,
       .help = "of the search: each swaps channels of disjoint groups",
       .least = 1,
       .most = 1000},
  };
}

Rows reap_rows() {
  return {
      {.name = "sparsity", .kinds = kFloatKind, .help = "share of experts removed", .required = true},
      {.name = "ignore",
       .kinds = kTextListKind,
       .initial = RecipeValue::List{},
       .help = "layers left alone",
       .normalise = list_of_texts},
      {.name = "report_path",
       .kinds = kTextKind | kNullKind,
       .help = "where the saliencies go (.json)",
       .normalise = json_path},
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

FieldRow dict_row(const char* name, const char* help) {
  return {.name = name, .kinds = kMapKind | kListKind | kNullKind, .help = help, .use = FieldUse::kInput};
}

std::vector<ModifierRow> make_table() {
  const Rows text_targets{{.name = "targets",
                           .kinds = kTextKind | kTextListKind,
                           .help = "parameters whose zeros stay",
                           .required = true}};
  const Rows quip_targets{{.name = "targets",
                           .kinds = kTextKind | kTextListKind,
                           .initial = "Linear",
                           .help = "modules to rotate"}};
  const Rows quip_ignore{{.name = "ignore",
                          .kinds = kTextKind | kTextListKind,
                          .initial = "lm_head",
                          .help = "modules left alone"}};
  const Rows wanda_tail{
      {.name = "mask_swaps",
       .kinds = kIntKind,
       .initial = 100,
       .help = "exchanges of kept and pruned weights per row that lower the exact error; 0: off",
       .least = 0,
       .most = 100000,
       .use = FieldUse::kOwn},
      {.name = "dampening_frac",
       .kinds = kFloatKind | kNullKind,
       .initial = 0.01,
       .help = "share of the mean diagonal added to the Hessian",
       .least = 0,
       .use = FieldUse::kOwn}};
  const Rows sparsegpt_tail{{.name = "preserve_sparsity_mask",
                             .kinds = kBoolKind,
                             .initial = false,
                             .help = "zeros that exist stay"},
                            {.name = "offload_hessians",
                             .kinds = kBoolKind,
                             .initial = false,
                             .help = "no effect: memory follows the budget"},
                            {.name = "mask_iterations",
                             .kinds = kIntKind,
                             .initial = 24,
                             .help = "of the search for a better mask (ADMM); 0: the recursion's mask",
                             .least = 0,
                             .most = 1000,
                             .use = FieldUse::kOwn}};
  return {
      {"QuantizationModifier", "round to nearest, with activations calibrated where they are static",
       quantization_rows() + common_rows(false), true, check_quantization},
      {"GPTQModifier", "error-compensated rounding with second-order statistics",
       quantization_rows() + common_rows(true) + hessian_rows() + gptq_rows() + correction_rows(true), true,
       check_quantization},
      {"AWQModifier", "activation-aware scaling by grid search, before a quantizing modifier",
       common_rows(true) + awq_rows()},
      {"SmoothQuantModifier", "moves activation outliers into weights",
       common_rows(true) + smooth_rows("smoothquant"), false, check_whole_run},
      {"LogarithmicEqualizationModifier", "SmoothQuantModifier with algorithm: log_equalization",
       common_rows(true) + smooth_rows("log_equalization"), false, check_whole_run},
      {"SpinQuantModifier", "rotations R1 to R4",
       common_rows(false) + rotation_rows({"R1", "R2", "R3", "R4"}, {"R1", "R2"}, "hadamard", upper_case) +
           rotation_tail() +
           Rows{dict_row("mappings", "names of the layers; null: inferred"),
                dict_row("norm_mappings", "norms to fuse; null: inferred"), transform_config_row()}},
      {"QuIPModifier", "random rotations of inputs (v) and outputs (u)",
       common_rows(false) + rotation_rows({"v", "u"}, {"v"}, "random-hadamard", lower_case) + quip_targets +
           rotation_tail() + quip_ignore + Rows{transform_config_row()}},
      {"SparseGPTModifier", "pruning with second-order statistics and weight update",
       common_rows(true) + sparsity_rows(12) + hessian_rows() + sparsegpt_tail + correction_rows(true), false,
       check_owl},
      {"WandaPruningModifier", "pruning by weight times input norm",
       common_rows(true) + sparsity_rows(0) + wanda_tail + correction_rows(false), false, check_owl},
      {"MagnitudePruningModifier", "pruning by absolute value", common_rows(false) + magnitude_rows()},
      {"ChannelPermutationModifier",
       "before N:M pruning: an order of channels in which more importance is retained (nibble only)",
       common_rows(true) + permutation_rows()},
      {"ConstantPruningModifier", "keeps zeros through later modifiers and training",
       common_rows(false) + text_targets},
      {"REAPPruningModifier", "removes experts of mixture-of-experts layers", common_rows(true) + reap_rows(),
       false, check_open_interval},
      {"AutoRoundModifier", "learned rounding", quantization_rows() + common_rows(true) + autoround_rows(),
       true, check_quantization},
  };
}

}  // namespace

const std::vector<ModifierRow>& modifier_table() {
  static const std::vector<ModifierRow> table = make_table();
  return table;
}

Result<const ModifierRow*> find_modifier_row(std::string_view class_name) {
  std::vector<std::string> names;
  for (const ModifierRow& row : modifier_table()) {
    if (row.class_name == class_name) return &row;
    names.push_back(row.class_name);
  }
  std::string hint = did_you_mean(class_name, names);
  if (hint.empty()) hint = "modifiers are " + join_or(names);
  return usage_error(fmt::format("unknown modifier \"{}\"", class_name), std::move(hint));
}

Result<ModifierConfig> make_modifier_config(std::string_view class_name, std::string stage, std::string group,
                                            const RecipeValue& body, const RecipeRules& rules,
                                            std::vector<std::string>& warnings) {
  TRY_ASSIGN(const ModifierRow* row, find_modifier_row(class_name));
  ModifierConfig config{row, std::move(stage), std::move(group), {}};
  auto arguments = read_arguments(row->fields, body, rules, warnings);
  if (!arguments.ok()) return std::move(arguments).at(class_name).error();
  config.arguments = std::move(arguments).value();
  if (row->check) TRY(row->check(config.arguments).at(class_name));
  if (row->quantizes) TRY(complete_quantization(config));
  return config;
}

}  // namespace nibble
