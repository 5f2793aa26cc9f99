// SPDX-License-Identifier: Apache-2.0
// The gatherer and statistics files: what was gathered into one, and what is wanted out of one.
#include <fmt/format.h>

#include "session/gather.h"

namespace nibble {
namespace {

InputRecord record_of(const InputStatistics& input, std::int64_t cols) {
  InputRecord record;
  record.cols = cols;
  record.tokens = input.tokens();
  record.sequences = input.sequences();
  record.abs_mean = input.abs_mean();
  record.square_mean = input.square_mean();
  record.column_min = input.column_min();
  record.column_max = input.column_max();
  record.hessian = input.hessian();
  record.compared = input.compared_hessian();
  for (int half = 0; half < InputStatistics::kHalves; ++half)
    record.shift[static_cast<std::size_t>(half)] = input.half_shift(half);
  record.sample = input.sample();
  return record;
}

}  // namespace

void Gatherer::add_to(StatisticsPart& part, const std::string& set) const {
  std::map<const InputStatistics*, std::size_t> places;
  std::vector<std::pair<const InputStatistics*, InputRecord>> records;
  for (const auto& [module, needs] : needs_) {
    const ModuleStatistics& found = results_.at(module);
    if (!found.output_column_min.empty()) {
      part.add_output(set, module->name,
                      {found.tokens, found.sequences, found.output_column_min, found.output_column_max});
    }
    const InputStatistics* input = module->kind == ModuleKind::kLinear ? input_of(*module) : nullptr;
    if (input == nullptr) continue;
    const auto [place, is_new] = places.try_emplace(input, records.size());
    if (is_new) records.emplace_back(input, record_of(*input, module->cols));
    records[place->second].second.modules.push_back(module->name);
  }
  for (const auto& [input, record] : records) part.add_input(set, record);
}

Status Gatherer::load(const StatisticsFile& file, const std::string& set) {
  for (const auto& [module, needs] : needs_) {
    TRY(load(file, set, *module, needs, results_[module]).at(fmt::format("module {}", module->name)));
  }
  return {};
}

namespace {

Status check_size(const StatisticsFile& file, const char* what, std::size_t found, std::int64_t expected) {
  if (static_cast<std::int64_t>(found) == expected) return {};
  return bad_data(
      fmt::format("{} holds {} {} channels, the module has {}", file.path().string(), found, what, expected));
}

}  // namespace

// As it was gathered, or for a norm from the input of what reads it.
Status Gatherer::load_output(const StatisticsFile& file, const std::string& set, const ModuleInfo& module,
                             ModuleStatistics& out) const {
  SavedOutput output;
  if (file.output_of(set, module.name) != nullptr) {
    TRY_ASSIGN(output, file.load_output(set, module.name));
  } else if (const ModuleInfo* reader = reader_of(state_.model, module);
             reader != nullptr && file.input_of(set, reader->name) != nullptr) {
    TRY_ASSIGN(SavedInput input, file.load_input(set, reader->name));
    output = {input.record.tokens, input.record.sequences, std::move(input.record.column_min),
              std::move(input.record.column_max)};
  }
  TRY(check_size(file, "output", output.min.size(), module.rows));
  out.output_column_min = std::move(output.min);
  out.output_column_max = std::move(output.max);
  if (module.kind != ModuleKind::kNorm) return {};
  out.tokens = output.tokens;
  out.sequences = output.sequences;
  return {};
}

Status Gatherer::load(const StatisticsFile& file, const std::string& set, const ModuleInfo& module,
                      unsigned needs, ModuleStatistics& out) {
  if ((needs & kOutputColumnRange) != 0) TRY(load_output(file, set, module, out));
  const StatisticsFile::Entry* entry = file.input_of(set, module.name);
  if (entry == nullptr || module.kind != ModuleKind::kLinear) return {};
  auto& loaded = loaded_[entry];
  if (!loaded) {
    TRY_ASSIGN(SavedInput input, file.load_input(set, module.name));
    loaded = std::make_unique<SavedInput>(std::move(input));
  }
  const InputRecord& input = loaded->record;
  TRY(check_size(file, "input", static_cast<std::size_t>(input.cols), module.cols));
  out.tokens = input.tokens;
  out.sequences = input.sequences;
  if ((needs & kInputAbsMean) != 0) out.input_abs_mean = input.abs_mean;
  if ((needs & kInputSquareMean) != 0) out.input_square_mean = input.square_mean;
  if ((needs & kInputColumnRange) != 0) {
    out.input_column_min = input.column_min;
    out.input_column_max = input.column_max;
  }
  // A shift brings the moments with it, as when it is gathered.
  const bool wants_shift = (needs & kInputShift) != 0;
  if ((needs & kHessian) != 0 || wants_shift) out.hessian = input.hessian;
  if ((needs & kInputSample) != 0) out.input_sample = input.sample;
  if (!wants_shift) return {};
  out.compared_hessian = input.compared;
  for (std::size_t half = 0; half < 2; ++half) out.half_shift[half] = input.shift[half];
  return {};
}

}  // namespace nibble
