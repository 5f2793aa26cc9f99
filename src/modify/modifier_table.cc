// SPDX-License-Identifier: Apache-2.0
// Every modifier class a recipe may name, with all its fields, defaults and allowed values, as in
// llm-compressor 0.14: the rows of modifier_rows_*.cc, and what they share.
#include <fmt/format.h>

#include "base/suggest.h"
#include "modify/modifier_config.h"
#include "modify/modifier_rows.h"

namespace nibble {
namespace modifier_rows {
namespace {

FieldRow calibration_row(bool needs_data) {
  return {.name = "requires_calibration_data",
          .kinds = kBoolKind,
          .initial = needs_data,
          .help = "the modifier needs forward passes over data"};
}

}  // namespace

Rows operator+(Rows a, const Rows& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Rows common_rows(bool needs_data) {
  constexpr unsigned kStep = kFloatKind | kNullKind;
  return {calibration_row(needs_data),
          {.name = "index", .kinds = kIntKind | kNullKind, .help = "place among the modifiers"},
          {.name = "start", .kinds = kStep, .help = "first training step (fine-tuning)"},
          {.name = "end", .kinds = kStep, .help = "last training step (fine-tuning)"},
          {.name = "update", .kinds = kStep, .help = "training steps between updates (fine-tuning)"}};
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
      {.name = "correction_samples",
       .kinds = kIntKind,
       .initial = 8,
       .help = "target_correction: how many of the calibration sequences the original model sees too; 0: all",
       .least = 0,
       .use = FieldUse::kOwn},
      {.name = "bias_correction",
       .kinds = kBoolKind,
       .initial = true,
       .help = "where a bias exists: centred statistics, then the bias that keeps the mean output",
       .use = FieldUse::kOwn},
  };
}

}  // namespace modifier_rows

namespace {

std::vector<ModifierRow> make_table() {
  std::vector<ModifierRow> table;
  for (const auto rows : {modifier_rows::quantization_modifiers, modifier_rows::transform_modifiers,
                          modifier_rows::pruning_modifiers, modifier_rows::learned_modifiers}) {
    for (ModifierRow& row : rows()) table.push_back(std::move(row));
  }
  return table;
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
