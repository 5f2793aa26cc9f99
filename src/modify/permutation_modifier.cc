// SPDX-License-Identifier: Apache-2.0
#include "modify/permutation_modifier.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "modify/work_values.h"

namespace nibble {
namespace {

Matrix with_rows(const Matrix& matrix, const ChannelOrder& order) {
  Matrix result(matrix.rows(), matrix.cols());
  for (std::int64_t r = 0; r < matrix.rows(); ++r)
    std::ranges::copy(matrix.row(order[static_cast<std::size_t>(r)]), result.row(r).begin());
  return result;
}

Matrix with_columns(const Matrix& matrix, const ChannelOrder& order) {
  Matrix result(matrix.rows(), matrix.cols());
  for (std::int64_t r = 0; r < matrix.rows(); ++r) {
    for (std::int64_t c = 0; c < matrix.cols(); ++c)
      result.at(r, c) = matrix.at(r, order[static_cast<std::size_t>(c)]);
  }
  return result;
}

void permute_rows(ThreadPool& pool, const ChannelOrder& order, ModuleWork& work) {
  store_weight(pool, with_rows(weight_matrix(pool, work), order), work);
  if (!work.bias) return;
  const std::vector<float> bias = bias_values(work);
  std::vector<float> moved(bias.size());
  for (std::size_t i = 0; i < bias.size(); ++i) moved[i] = bias[static_cast<std::size_t>(order[i])];
  store_bias(moved, work);
}

}  // namespace

Result<std::unique_ptr<Modifier>> ChannelPermutationModifier::make(const ModifierConfig& config) {
  return std::unique_ptr<Modifier>(std::make_unique<ChannelPermutationModifier>(config));
}

void ChannelPermutationModifier::find_channels(const ModelDescription& model, int block,
                                               std::vector<Channels>& found,
                                               std::vector<std::string>& notes) const {
  const auto find = [&](ModuleRole role, int expert) -> std::optional<std::size_t> {
    for (std::size_t m = 0; m < model.modules.size(); ++m) {
      const ModuleInfo& module = model.modules[m];
      if (module.block == block && module.role == role && module.expert == expert) return m;
    }
    return std::nullopt;
  };
  const auto add = [&](std::vector<std::optional<std::size_t>> makers, std::optional<std::size_t> reader,
                       std::int64_t width, bool gated) {
    if (!reader || !makers[0] || (gated && !makers[1])) return;
    const std::int64_t cols = model.modules[*reader].cols;
    const std::int64_t rows = model.modules[*makers[0]].rows;
    if (width == 0) width = cols;
    if (width % pattern_.group != 0 || rows % width != 0 || cols % rows != 0) {
      notes.push_back(
          fmt::format("{} keeps its order of channels: {} of them cannot be cut into groups of {}",
                      model.modules[*reader].name, width, pattern_.group));
      return;
    }
    Channels channels{.makers = {}, .reader = *reader, .width = width, .readers_per_run = cols / rows};
    for (const auto& maker : makers) {
      if (maker) channels.makers.push_back(*maker);
    }
    found.push_back(std::move(channels));
  };
  add({find(ModuleRole::kValue, -1)}, find(ModuleRole::kAttentionOutput, -1), model.head_dim, false);
  add({find(ModuleRole::kUp, -1), find(ModuleRole::kGate, -1)}, find(ModuleRole::kDown, -1), 0, false);
  for (int expert = 0; find(ModuleRole::kExpertDown, expert); ++expert) {
    add({find(ModuleRole::kExpertUp, expert), find(ModuleRole::kExpertGate, expert)},
        find(ModuleRole::kExpertDown, expert), 0, true);
  }
}

Status ChannelPermutationModifier::initialize(ModelState& state) {
  model_ = &state.model;
  TRY_ASSIGN(pattern_, parse_mask_structure(config().arguments.text("mask_structure"), 0));
  if (state.rules.strict)
    return usage_error(fmt::format("{} does not exist in llm-compressor", class_name()),
                       "leave out --reference");
  if (!pattern_.is_structured())
    return usage_error(fmt::format("{}: mask_structure is 0:0, expected N:M such as 2:4", class_name()));
  for (int block = 0; block < state.model.num_blocks; ++block)
    find_channels(state.model, block, channels_, state.matches.warnings);
  if (!channels_.empty()) return {};
  return usage_error(
      fmt::format("{} finds no channels that it could move in {}", class_name(), state.model.architecture));
}

unsigned ChannelPermutationModifier::needs(const ModelState& state, const ModuleInfo& module) const {
  const auto index = static_cast<std::size_t>(&module - state.model.modules.data());
  const bool reads =
      std::ranges::any_of(channels_, [&](const Channels& channels) { return channels.reader == index; });
  return reads ? kInputSquareMean : kNoStatistic;
}

Result<LayerReport> ChannelPermutationModifier::permute(const Channels& channels, UnitWork& unit,
                                                        Context& context) const {
  ModuleWork& reader = *unit.find(model_->modules[channels.reader].name);
  const std::vector<float>& squares = reader.statistics->input_square_mean;
  const Matrix weight = weight_matrix(context.pool, reader);
  const std::int64_t width = channels.width, shared = channels.readers_per_run;
  ChannelOrder rows(static_cast<std::size_t>(weight.cols() / shared));
  ChannelOrder columns(static_cast<std::size_t>(weight.cols()));
  double before = 0, after = 0;
  for (std::int64_t run = 0; run * width < static_cast<std::int64_t>(rows.size()); ++run) {
    // All columns that read a channel of the run, below each other.
    Matrix scores(weight.rows() * shared, width);
    for (std::int64_t s = 0; s < shared; ++s) {
      for (std::int64_t r = 0; r < weight.rows(); ++r) {
        for (std::int64_t c = 0; c < width; ++c) {
          const std::int64_t from = (run * shared + s) * width + c;
          scores.at(s * weight.rows() + r, c) =
              std::fabs(weight.at(r, from)) * std::sqrt(squares[static_cast<std::size_t>(from)]);
        }
      }
    }
    const ChannelOrder order = find_channel_order(context.pool, scores, pattern_,
                                                  static_cast<int>(config().arguments.integer("rounds")));
    before += retained_importance(scores, pattern_);
    after += retained_importance(scores, pattern_, order);
    for (std::int64_t c = 0; c < width; ++c) {
      const std::int64_t from = order[static_cast<std::size_t>(c)];
      rows[static_cast<std::size_t>(run * width + c)] = run * width + from;
      for (std::int64_t s = 0; s < shared; ++s)
        columns[static_cast<std::size_t>((run * shared + s) * width + c)] = (run * shared + s) * width + from;
    }
  }
  store_weight(context.pool, with_columns(weight, columns), reader);
  for (const std::size_t maker : channels.makers)
    permute_rows(context.pool, rows, *unit.find(model_->modules[maker].name));
  LayerReport report = layer_report(reader, class_name(), 1, 0);
  report.notes.push_back(
      fmt::format("retained importance +{:.2f} %", before > 0 ? 100 * (after / before - 1) : 0));
  return report;
}

Result<std::vector<LayerReport>> ChannelPermutationModifier::on_sequential_epoch_end(UnitWork& unit,
                                                                                     Context& context) {
  std::vector<LayerReport> reports;
  for (const Channels& channels : channels_) {
    const ModuleWork* reader = unit.find(model_->modules[channels.reader].name);
    const bool whole = reader && std::ranges::all_of(channels.makers, [&](std::size_t maker) {
                         return unit.find(model_->modules[maker].name) != nullptr;
                       });
    if (!whole || !reader->statistics || reader->statistics->input_square_mean.empty()) continue;
    const auto start = std::chrono::steady_clock::now();
    TRY_ASSIGN(LayerReport report, permute(channels, unit, context));
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    report.seconds = elapsed.count();
    reports.push_back(std::move(report));
  }
  return reports;
}

}  // namespace nibble
