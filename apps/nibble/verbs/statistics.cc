// SPDX-License-Identifier: Apache-2.0
// nibble statistics: what files of calibration statistics hold (show), and two of them in one (merge).
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>

#include "base/json.h"
#include "base/suggest.h"
#include "calibrate/statistics_merge.h"
#include "format.h"
#include "program.h"
#include "verbs/verbs.h"

namespace nibble::app {
namespace {

Json document_of(const StatisticsFile& file, const std::vector<InputSummary>& rows) {
  Json inputs = Json::array();
  for (const InputSummary& row : rows) {
    inputs.push_back({{"set", row.set},
                      {"modules", row.modules},
                      {"columns", row.cols},
                      {"tokens", row.tokens},
                      {"sequences", row.sequences},
                      {"statistics", row.statistics},
                      {"trace", row.trace ? Json(*row.trace) : Json(nullptr)},
                      {"condition", row.condition ? Json(*row.condition) : Json(nullptr)}});
  }
  Json outputs = Json::array();
  for (const auto& [set, names] : file.outputs()) {
    for (const auto& [module, entry] : names)
      outputs.push_back({{"set", set}, {"module", module}, {"channels", entry.cols}});
  }
  return {{"file", file.path().string()},
          {"bytes", std::filesystem::file_size(file.path())},
          {"origin", to_json(file.origin())},
          {"inputs", std::move(inputs)},
          {"outputs", std::move(outputs)}};
}

std::string text_of(const StatisticsFile& file, const std::vector<InputSummary>& rows) {
  const StatisticsOrigin& origin = file.origin();
  std::string text = fmt::format("model: {} {}, {}\n", origin.model_type, origin.model, origin.precision);
  for (const StatisticsOrigin::Run& run : origin.runs) {
    text += fmt::format("data: {}, {} samples, {} tokens\n", run.dataset, format_count(run.samples),
                        format_count(run.tokens));
  }
  for (const StatisticsOrigin::Set& set : origin.sets) {
    if (!file.inputs().contains(set.name) && !file.outputs().contains(set.name)) continue;
    text += fmt::format("set {}: for {}, {}\n", set.name, set.modifiers,
                        set.of_original ? "inputs of the original model" : "inputs behind changed layers");
  }
  Table table({"set", "input of", "columns", "tokens", "sequences", "statistics", "trace", "condition"});
  for (const InputSummary& row : rows) {
    std::string name = row.modules.empty() ? "" : row.modules.front();
    if (row.modules.size() > 1) name += fmt::format(" (+{})", row.modules.size() - 1);
    table.row({row.set, name, format_count(row.cols), format_count(row.tokens), format_count(row.sequences),
               fmt::format("{}", fmt::join(row.statistics, " ")), row.trace ? format_number(*row.trace) : "-",
               row.condition ? format_number(*row.condition) : "-"});
  }
  return text + table.text();
}

class Statistics final : public Verb {
 public:
  void add_flags(Flags& flags) override {
    flags.positionals("ACTION", words_, "show FILE, or merge A B");
    flags.value("-o,--output", "FILE", output_, "merge: the file to write");
    flags.toggle("--overwrite", overwrite_, "merge: replace an earlier file");
  }

  Status run(Program& program) override {
    const std::string& action = words_.front();
    if (action == "show" && words_.size() == 2) return show(program, words_[1]);
    if (action == "merge" && words_.size() == 3) return merge(program);
    if (action == "show") return usage_error("show takes one file of statistics");
    if (action == "merge") return usage_error("merge takes two files of statistics");
    const std::vector<std::string> actions{"show", "merge"};
    return usage_error(fmt::format("statistics knows no action \"{}\"; it has {}", action, join_or(actions)),
                       did_you_mean(action, actions));
  }

 private:
  static Status show(Program& program, const std::string& path) {
    TRY_ASSIGN(const StatisticsFile file, StatisticsFile::open(path));
    TRY_ASSIGN(const std::vector<InputSummary> rows, summarise_statistics(file, program.context()));
    return program.print(document_of(file, rows), text_of(file, rows));
  }

  Status merge(Program& program) const {
    if (output_.empty()) return usage_error("merge needs a place for the result", "give --output FILE");
    std::error_code status;
    for (const std::string& source : {words_[1], words_[2]}) {
      if (std::filesystem::equivalent(source, output_, status))
        return usage_error(fmt::format("{} is read and cannot be written", output_), "give another --output");
    }
    if (std::filesystem::exists(output_, status) && !overwrite_)
      return cannot_create(fmt::format("{} exists already", output_), "give another name, or --overwrite");
    TRY_ASSIGN(const StatisticsFile a, StatisticsFile::open(words_[1]));
    TRY_ASSIGN(const StatisticsFile b, StatisticsFile::open(words_[2]));
    TRY(merge_statistics(a, b, output_, program.context()));
    TRY_ASSIGN(const StatisticsFile whole, StatisticsFile::open(output_));
    std::int64_t tokens = 0;
    for (const StatisticsOrigin::Run& run : whole.origin().runs) tokens += run.tokens;
    const Json document{{"file", output_},
                        {"bytes", std::filesystem::file_size(output_)},
                        {"origin", to_json(whole.origin())}};
    return program.print(document, fmt::format("{}: {} data sets, {} tokens\n", output_,
                                               whole.origin().runs.size(), format_count(tokens)));
  }

  std::vector<std::string> words_;
  std::string output_;
  bool overwrite_ = false;
};

}  // namespace

VerbEntry statistics_verb() {
  return {.name = "statistics",
          .usage = "(show FILE | merge A B -o OUT) [flags]",
          .summary = "calibration statistics in a file: show them, or merge those of two data sets",
          .detail = "Files come from `nibble oneshot --save-statistics` and are used with --statistics.",
          .examples = {"show c4.safetensors", "show c4.safetensors --json",
                       "merge c4.safetensors code.safetensors -o both.safetensors"},
          .make = []() -> std::unique_ptr<Verb> { return std::make_unique<Statistics>(); }};
}

}  // namespace nibble::app
