// SPDX-License-Identifier: Apache-2.0
#include "session/option_notes.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

namespace nibble {
namespace {

struct Row {
  std::string_view name;
  bool (*given)(const Options& options, const Options& usual);
};

template <auto kMember>
constexpr Row row(std::string_view name) {
  return {name,
          [](const Options& options, const Options& usual) { return options.*kMember != usual.*kMember; }};
}

constexpr std::array kOnlyWithRecipe{row<&Options::recipe_args>("recipe_args"),
                                     row<&Options::stage>("stage")};
constexpr std::array kOnlyWithScheme{row<&Options::method>("method"), row<&Options::group_size>("group_size"),
                                     row<&Options::ignore>("ignore")};

constexpr std::array kOnlyWithData{
    row<&Options::statistics>("statistics"),
    row<&Options::dataset>("dataset"),
    row<&Options::dataset_config_name>("dataset_config_name"),
    row<&Options::dataset_path>("dataset_path"),
    row<&Options::splits>("splits"),
    row<&Options::batch_size>("batch_size"),
    row<&Options::data_collator>("data_collator"),
    row<&Options::num_calibration_samples>("num_calibration_samples"),
    row<&Options::shuffle_calibration_samples>("shuffle_calibration_samples"),
    row<&Options::max_seq_length>("max_seq_length"),
    row<&Options::pad_to_max_length>("pad_to_max_length"),
    row<&Options::text_column>("text_column"),
    row<&Options::preprocessing>("preprocessing"),
    row<&Options::concatenate_data>("concatenate_data"),
    row<&Options::streaming>("streaming"),
    row<&Options::use_loss_mask>("use_loss_mask"),
    row<&Options::sequential_targets>("sequential_targets"),
    row<&Options::sequential_targets_per_subgraph>("sequential_targets_per_subgraph"),
    row<&Options::sequential_offload_device>("sequential_offload_device"),
    row<&Options::sequential_prefetch>("sequential_prefetch"),
    row<&Options::propagate_error>("propagate_error"),
    row<&Options::quantization_aware_calibration>("quantization_aware_calibration"),
    row<&Options::moe_calibrate_all_experts>("moe_calibrate_all_experts"),
};

struct NeverRow {
  Row row;
  std::string_view reason;
};
constexpr std::array kNever{
    NeverRow{row<&Options::trust_remote_code_model>("trust_remote_code_model"),
             "no code of a model is ever run"},
    NeverRow{row<&Options::preprocessing_num_workers>("preprocessing_num_workers"),
             "threads decides, and results do not depend on it"},
    NeverRow{row<&Options::dataloader_num_workers>("dataloader_num_workers"),
             "threads decides, and results do not depend on it"},
    NeverRow{row<&Options::overwrite_cache>("overwrite_cache"), "data sets are not cached"},
    NeverRow{row<&Options::clear_sparse_session>("clear_sparse_session"),
             "every run has a session of its own"},
};

bool has_experts(const ModelDescription& model) {
  return std::any_of(model.modules.begin(), model.modules.end(),
                     [](const ModuleInfo& module) { return module.expert >= 0; });
}

struct DataRow {
  Row row;
  std::string_view reason;
  bool (*applies)(const Options& options, const ModelDescription& model);
};
constexpr auto kAlways = [](const Options&, const ModelDescription&) { return true; };
constexpr std::array kWithData{
    DataRow{row<&Options::dataset_config_name>("dataset_config_name"),
            "the data set is a file or a folder, which has no configurations", kAlways},
    DataRow{row<&Options::sequential_offload_device>("sequential_offload_device"),
            "activations wait in memory", kAlways},
    DataRow{row<&Options::sequential_prefetch>("sequential_prefetch"),
            "weights are mapped, and the system reads ahead by itself", kAlways},
    DataRow{row<&Options::quantization_aware_calibration>("quantization_aware_calibration"),
            "propagate_error decides which weights the passes use", kAlways},
    DataRow{row<&Options::pad_to_max_length>("pad_to_max_length"), "padding never enters a statistic",
            kAlways},
    DataRow{row<&Options::data_collator>("data_collator"), "with batch_size 1 no sample is cut or padded",
            [](const Options& options, const ModelDescription&) { return options.batch_size == 1; }},
    DataRow{row<&Options::moe_calibrate_all_experts>("moe_calibrate_all_experts"), "the model has no experts",
            [](const Options&, const ModelDescription& model) { return !has_experts(model); }},
};

template <std::size_t N>
std::vector<std::string_view> given(const std::array<Row, N>& rows, const Options& options) {
  const Options usual;
  std::vector<std::string_view> names;
  for (const Row& row : rows) {
    if (row.given(options, usual)) names.push_back(row.name);
  }
  return names;
}

std::string list(const std::vector<std::string_view>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

Status check_options(const Options& options) {
  if (!options.scheme.empty()) {
    if (const auto names = given(kOnlyWithRecipe, options); !names.empty()) {
      return usage_error(fmt::format("{} belongs to a recipe, but a scheme is given", list(names)),
                         "leave it out, or write the scheme into a recipe (nibble recipes show)");
    }
  } else if (!options.recipe.empty()) {
    if (const auto names = given(kOnlyWithScheme, options); !names.empty()) {
      return usage_error(fmt::format("{} belongs to scheme, but a recipe is given", list(names)),
                         "write it into the recipe");
    }
  }
  if (options.resume && options.output_dir.empty()) {
    return usage_error("resume needs the output_dir of the stopped run", "give the same --output-dir");
  }
  return {};
}

std::vector<std::string> options_without_effect(const Options& options, const ModelDescription& model,
                                                bool needs_data) {
  std::vector<std::string> notes;
  if (!needs_data) {
    if (const auto names = given(kOnlyWithData, options); !names.empty()) {
      notes.push_back(fmt::format("the recipe needs no calibration data: {} {} no effect", list(names),
                                  names.size() == 1 ? "has" : "have"));
    }
  }
  const Options usual;
  for (const DataRow& entry : kWithData) {
    if (needs_data && entry.row.given(options, usual) && entry.applies(options, model))
      notes.push_back(fmt::format("{} has no effect: {}", entry.row.name, entry.reason));
  }
  for (const NeverRow& never : kNever) {
    if (never.row.given(options, usual))
      notes.push_back(fmt::format("{} has no effect: {}", never.row.name, never.reason));
  }
  const bool has_tied = std::any_of(model.modules.begin(), model.modules.end(),
                                    [](const ModuleInfo& module) { return !module.tied_to.empty(); });
  if (!options.tie_word_embeddings && !has_tied)
    notes.emplace_back("tie_word_embeddings has no effect: the head has a weight of its own already");
  return notes;
}

}  // namespace nibble
