// SPDX-License-Identifier: Apache-2.0
// nibble diff: what differs between two models, tensor by tensor.
#include "checkpoint/diff.h"

#include <fmt/format.h>

#include <cmath>

#include "base/byte_size.h"
#include "base/json.h"
#include "checkpoint/quantized_checkpoint.h"
#include "format.h"
#include "model_access.h"
#include "program.h"
#include "verbs/verbs.h"

namespace nibble::app {
namespace {

// JSON has no infinity: the relative error against zeros is null.
Json finite_or_null(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

Json document_of(const DiffReport& report) {
  Json tensors = Json::array();
  for (const TensorDifference& d : report.tensors) {
    if (d.kind == DifferenceKind::kEqual) continue;
    Json entry{{"name", d.name}, {"kind", to_string(d.kind)}, {"left", d.left}, {"right", d.right}};
    if (d.kind == DifferenceKind::kValues || d.kind == DifferenceKind::kDtype) {
      entry["differing"] = d.differing;
      entry["not_comparable"] = d.not_comparable;
      entry["max_error"] = finite_or_null(d.max_error);
      entry["relative_error"] = finite_or_null(d.relative_error);
    }
    tensors.push_back(std::move(entry));
  }
  return {{"same", report.is_same()},
          {"equal_tensors", report.equal},
          {"differing_tensors", std::move(tensors)},
          {"config_keys", report.config_keys},
          {"left_bytes", report.left_bytes},
          {"right_bytes", report.right_bytes}};
}

std::string text_of(const DiffReport& report) {
  Table table({"tensor", "difference", "left", "right", "values", "max error", "relative error"});
  for (const TensorDifference& d : report.tensors) {
    if (d.kind == DifferenceKind::kEqual) continue;
    const bool compared = d.kind == DifferenceKind::kValues || d.kind == DifferenceKind::kDtype;
    table.row({d.name, std::string(to_string(d.kind)), d.left, d.right,
               compared ? format_count(d.differing) : "", compared ? format_number(d.max_error) : "",
               compared ? format_number(d.relative_error) : ""});
  }
  std::string text = table.empty() ? std::string() : table.text() + "\n";
  for (const std::string& key : report.config_keys) text += "config.json: " + key + "\n";
  return text + fmt::format("{}: {} of {} tensors equal, {} and {}\n",
                            report.is_same() ? "same" : "different", report.equal, report.tensors.size(),
                            format_byte_size(report.left_bytes), format_byte_size(report.right_bytes));
}

class DiffVerb final : public Verb {
 public:
  void add_flags(Flags& flags) override {
    flags.positional("A", left_, "a model");
    flags.positional("B", right_, "another");
    flags.toggle("--stored", stored_,
                 "compare packed tensors as they lie on disk, not the weights they stand for");
  }

  Status run(Program& program) override {
    TRY_ASSIGN(const std::unique_ptr<Checkpoint> left, open(program, left_));
    TRY_ASSIGN(const std::unique_ptr<Checkpoint> right, open(program, right_));
    TRY_ASSIGN(const DiffReport report, diff_checkpoints(program.context(), *left, *right));
    if (!report.is_same()) program.leave_with(1);
    return program.print(document_of(report), text_of(report));
  }

 private:
  Result<std::unique_ptr<Checkpoint>> open(Program& program, const std::string& model) const {
    TRY_ASSIGN(std::unique_ptr<Checkpoint> checkpoint, open_checkpoint(program, model));
    if (stored_) return checkpoint;
    return decompressed(std::move(checkpoint), program.context().pool);
  }

  std::string left_;
  std::string right_;
  bool stored_ = false;
};

}  // namespace

VerbEntry diff_verb() {
  return {
      .name = "diff",
      .usage = "A B [flags]",
      .summary = "what differs between two models: tensors, values, configuration",
      .detail =
          "Compressed models are compared by the weights they stand for. Exit code 0 when the models are the "
          "same, 1 when they differ.",
      .examples = {"MODEL OUT", "OUT1 OUT2 --stored --json"},
      .make = []() -> std::unique_ptr<Verb> { return std::make_unique<DiffVerb>(); }};
}

}  // namespace nibble::app
