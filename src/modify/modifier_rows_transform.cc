// SPDX-License-Identifier: Apache-2.0
// Scaling and rotation before rounding: fields, defaults and allowed values as in llm-compressor 0.14, and
// our own.
#include "modify/modifier_rows.h"

#include "modify/field_rules.h"

namespace nibble::modifier_rows {
namespace {

using namespace field_rules;  // NOLINT: the rules are the vocabulary of these rows

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
      {.name = "scale_search",
       .kinds = kBoolKind,
       .initial = true,
       .help = "smoothquant: the scales that round activations and weights with the least noise, instead of "
               "the formula with smoothing_strength; also v to o and up to down where nothing else is mapped",
       .use = FieldUse::kOwn},
      {.name = "smoothing_statistic",
       .kinds = kTextKind,
       .initial = "range",
       .help = "of channels: largest minus smallest value, or largest absolute value (the paper's)",
       .allowed = {"range", "absmax"},
       .use = FieldUse::kOwn},
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

FieldRow dict_row(const char* name, const char* help) {
  return {.name = name, .kinds = kMapKind | kListKind | kNullKind, .help = help, .use = FieldUse::kInput};
}

}  // namespace

std::vector<ModifierRow> transform_modifiers() {
  const Rows quip_targets{{.name = "targets",
                           .kinds = kTextKind | kTextListKind,
                           .initial = "Linear",
                           .help = "modules to rotate"}};
  const Rows quip_ignore{{.name = "ignore",
                          .kinds = kTextKind | kTextListKind,
                          .initial = "lm_head",
                          .help = "modules left alone"}};
  return {
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
  };
}

}  // namespace nibble::modifier_rows
