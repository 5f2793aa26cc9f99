// SPDX-License-Identifier: Apache-2.0
// Pruning: fields, defaults and allowed values as in llm-compressor 0.14, and our own.
#include "modify/modifier_rows.h"

#include "modify/field_rules.h"
#include "modify/sparsegpt.h"

namespace nibble::modifier_rows {
namespace {

using namespace field_rules;  // NOLINT: the rules are the vocabulary of these rows

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

}  // namespace

std::vector<ModifierRow> pruning_modifiers() {
  const Rows text_targets{{.name = "targets",
                           .kinds = kTextKind | kTextListKind,
                           .help = "parameters whose zeros stay",
                           .required = true}};
  const Rows wanda_tail{
      {.name = "mask_swaps",
       .kinds = kIntKind,
       .initial = 1000,
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
                             .initial = PruneOptions{}.mask_iterations,
                             .help = "of the search for a better mask (ADMM); 0: the recursion's mask",
                             .least = 0,
                             .most = 1000,
                             .use = FieldUse::kOwn}};
  return {
      {"SparseGPTModifier", "pruning with second-order statistics and weight update",
       common_rows(true) + sparsity_rows(PruneOptions{}.solve_iterations) + hessian_rows() + sparsegpt_tail +
           correction_rows(true),
       false, check_owl},
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
  };
}

}  // namespace nibble::modifier_rows
