// SPDX-License-Identifier: Apache-2.0
// nibble verify: reads a model again and says whether it is whole.
#include "checkpoint/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "base/byte_size.h"
#include "base/file.h"
#include "base/json.h"
#include "checkpoint/quantized_checkpoint.h"
#include "format.h"
#include "model/sparsity_check.h"
#include "model/structure.h"
#include "model_access.h"
#include "program.h"
#include "verbs/verbs.h"

namespace nibble::app {
namespace {

// Hashes by file name: lines of sha256sum, or the document that `nibble verify --json` prints.
Result<std::map<std::string, std::string>> read_hashes(const std::string& path) {
  TRY_ASSIGN(const std::string text, read_text_file(path));
  std::map<std::string, std::string> hashes;
  if (const Result<Json> document = parse_json(text); document.ok() && document->contains("sha256")) {
    for (const auto& [file, hash] : (*document)["sha256"].items()) {
      if (hash.is_string()) hashes[file] = hash.get<std::string>();
    }
    return hashes;
  }
  constexpr std::size_t kDigits = 64;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    if (line.empty()) continue;
    const bool is_hash = line.find_first_not_of("0123456789abcdef") >= kDigits && line.size() > kDigits + 2;
    if (!is_hash) {
      return bad_data(fmt::format("\"{}\" is no line of sha256sum", line.substr(0, 80)),
                      "give what sha256sum or `nibble verify --json` printed")
          .add_context("file " + path);
    }
    const std::string name = line.substr(line.find_first_not_of(" *", kDigits));
    hashes[name.substr(name.rfind('/') + 1)] = line.substr(0, kDigits);
  }
  return hashes;
}

std::string_view text_of(StructureViolation::Kind kind) {
  using enum StructureViolation::Kind;
  return kind == kMissing ? "it is missing"
         : kind == kShape ? "it has the wrong shape"
                          : "it should not exist";
}

// Whether the tensors are those that config.json asks for.
void add_structure(const Checkpoint& checkpoint, VerifyReport& report) {
  const Result<Structure> checked = check_structure(checkpoint);
  if (!checked.ok()) {
    report.findings.push_back({.where = "config.json", .what = checked.error().message()});
    return;
  }
  for (const StructureViolation& violation : checked->violations) {
    report.findings.push_back(
        {.is_error = true,
         .where = fmt::format("module {}: tensor {}", violation.module, violation.tensor),
         .what = std::string(text_of(violation.kind)),
         .expected = violation.expected,
         .found = violation.found});
  }
  if (!checked->unused.empty()) {
    // A tower of images has hundreds of tensors.
    const std::size_t shown = std::min<std::size_t>(checked->unused.size(), 5);
    const std::span<const std::string> first(checked->unused.data(), shown);
    report.findings.push_back(
        {.is_error = false,
         .where = fmt::format("{} tensor(s)", checked->unused.size()),
         .what = fmt::format("no module of a {} uses them: {}{}", checked->architecture,
                             fmt::join(first, ", "), shown < checked->unused.size() ? ", ..." : "")});
  }
  if (!checked->unknown.empty()) {
    report.findings.push_back({.is_error = false,
                               .where = "config.json",
                               .what = checked->unknown + ", so names and shapes are not checked"});
  }
}

Json document_of(const std::string& model, const VerifyReport& report) {
  Json findings = Json::array();
  for (const VerifyFinding& finding : report.findings) {
    Json row{{"severity", finding.is_error ? "error" : "warning"},
             {"where", finding.where},
             {"what", finding.what}};
    if (!finding.expected.empty()) row["expected"] = finding.expected;
    if (!finding.found.empty()) row["found"] = finding.found;
    findings.push_back(std::move(row));
  }
  return {{"model", model},
          {"ok", report.ok()},
          {"tensors", report.tensors},
          {"quantized_modules", report.quantized_modules},
          {"bytes", report.bytes},
          {"findings", std::move(findings)},
          {"sha256", report.sha256}};
}

std::string text_of(const VerifyReport& report) {
  std::string text;
  for (const VerifyFinding& finding : report.findings) {
    text += fmt::format("{}: {}: {}", finding.is_error ? "error" : "warning", finding.where, finding.what);
    if (!finding.expected.empty())
      text += fmt::format(", expected {}, found {}", finding.expected, finding.found);
    text += "\n";
  }
  for (const auto& [file, hash] : report.sha256) text += fmt::format("{}  {}\n", hash, file);
  return text + fmt::format("{}: {} tensors, {} quantized modules, {}\n", report.ok() ? "whole" : "NOT whole",
                            report.tensors, report.quantized_modules, format_byte_size(report.bytes));
}

class VerifyVerb final : public Verb {
 public:
  void add_flags(Flags& flags) override {
    flags.positional("MODEL", model_, "folder, .safetensors or .gguf file");
    flags.toggle("--hashes", options_.hashes, "SHA-256 of every weight file", true);
    flags.toggle("--values", options_.values, "look for NaN and infinity", true);
    flags.toggle("--structure", structure_, "hold names and shapes to config.json", true);
    flags.value("--sha256", "FILE", expected_,
                "hashes that must hold: sha256sum's lines, or what verify --json printed");
    flags.group("Zeros that must be there");
    flags.value("--sparsity", "SHARE", expected_zeros_.sparsity, "share of zeros of the targets together", 0,
                1);
    flags.value("--tolerance", "SHARE", expected_zeros_.tolerance, "with --sparsity: how far off it may be",
                0, 1);
    flags.value("--mask-structure", "N:M", mask_structure_, "every target has N zeros in each M columns");
    flags.values("--targets", "LAYER", expected_zeros_.targets,
                 "names, re: expressions or Linear (default: all linears inside blocks)");
  }

  Status run(Program& program) override {
    if (!expected_.empty()) {
      TRY_ASSIGN(options_.expected_sha256, read_hashes(expected_));
      options_.hashes = true;
    }
    if (!mask_structure_.empty()) {
      TRY_ASSIGN(expected_zeros_.structure, parse_mask_pattern(mask_structure_));
    }
    if (expected_zeros_.is_empty() && !expected_zeros_.targets.empty())
      return usage_error("--targets says which layers to check, but not for what",
                         "give --sparsity or --mask-structure");
    TRY_ASSIGN(std::unique_ptr<Checkpoint> checkpoint, open_checkpoint(program, model_));
    TRY_ASSIGN(VerifyReport report, verify_checkpoint(program.context(), *checkpoint, options_));
    if (structure_) add_structure(*checkpoint, report);
    if (report.ok() && !expected_zeros_.is_empty()) {
      TRY_ASSIGN(checkpoint, decompressed(std::move(checkpoint), program.context().pool));
      TRY_ASSIGN(std::vector<VerifyFinding> findings,
                 check_sparsity(*checkpoint, expected_zeros_, program.context()));
      report.findings.insert(report.findings.end(), findings.begin(), findings.end());
    }
    TRY(program.print(document_of(model_, report), text_of(report)));
    if (report.ok()) return {};
    std::size_t errors = 0;
    for (const VerifyFinding& finding : report.findings) errors += finding.is_error ? 1 : 0;
    return bad_data(fmt::format("{} problem(s) found", errors)).add_context("model " + model_);
  }

 private:
  std::string model_;
  std::string expected_;
  std::string mask_structure_;
  SparsityExpectation expected_zeros_;
  bool structure_ = true;
  VerifyOptions options_;
};

}  // namespace

VerbEntry verify_verb() {
  return {.name = "verify",
          .usage = "MODEL [flags]",
          .summary = "read a model again: names, shapes, hashes, finite values, quantized modules",
          .detail = "Exit code 65 when something is wrong.",
          .examples = {"OUT", "OUT --sha256 SHA256SUMS", "OUT --no-values --json",
                       "OUT --sparsity 0.5 --mask-structure 2:4"},
          .make = []() -> std::unique_ptr<Verb> { return std::make_unique<VerifyVerb>(); }};
}

}  // namespace nibble::app
