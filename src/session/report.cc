// SPDX-License-Identifier: Apache-2.0
#include "session/report.h"

#include <cmath>

#include "base/json.h"

namespace nibble {
namespace {

// JSON has no infinity: an exact copy has no noise, and no SQNR.
Json finite_or_null(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

Json row_json(const ModuleRow& row) {
  Json json = Json::object();
  json["name"] = row.name;
  json["scheme"] = row.scheme;
  json["format"] = row.format;
  json["bits"] = row.bits;
  json["bits_per_weight"] = row.bits_per_weight();
  json["weights"] = row.weights;
  json["bytes"] = row.bytes;
  if (row.changes.empty()) return json;
  const LayerReport& last = row.changes.back();
  json["relative_error"] = finite_or_null(last.relative_error);
  json["sqnr_db"] = finite_or_null(last.sqnr_db);
  double seconds = 0;
  json["modifiers"] = Json::array();
  json["notes"] = Json::array();
  for (const LayerReport& change : row.changes) {
    seconds += change.seconds;
    json["modifiers"].push_back(change.modifier);
    for (const std::string& note : change.notes) json["notes"].push_back(note);
    if (change.rtn_relative_error) json["rtn_relative_error"] = finite_or_null(*change.rtn_relative_error);
    if (change.loss) json["loss"] = finite_or_null(*change.loss);
    if (change.zeros) json["zeros"] = *change.zeros;
    if (change.zeros_lost)
      json["zeros_lost"] = json.value("zeros_lost", std::int64_t{0}) + *change.zeros_lost;
  }
  json["seconds"] = seconds;
  return json;
}

Json totals_json(const RunReport& report) {
  Json json = Json::object();
  json["modules"] = report.modules.size();
  json["weights"] = report.quantized_weights();
  json["bytes"] = report.quantized_bytes();
  json["bits_per_weight"] = report.bits_per_weight();
  json["carried_bytes"] = report.carried_bytes;
  json["parameters"] = report.parameters;
  json["source_bytes"] = report.source_bytes;
  json["source_bits_per_parameter"] = report.bits_per_parameter(report.source_bytes);
  json["output_bytes"] = report.output_bytes;
  json["output_bits_per_parameter"] = report.bits_per_parameter(report.output_bytes);
  double error = 0;
  double energy = 0;
  bool measured = false;
  for (const ModuleRow& row : report.modules) {
    if (row.changes.empty()) continue;
    measured = true;
    const double weight = static_cast<double>(row.weights);
    error += weight * row.changes.back().relative_error * row.changes.back().relative_error;
    energy += weight;
  }
  // Root of the mean square of the modules' relative errors, each counted by its weights.
  if (measured && energy > 0) json["relative_error"] = finite_or_null(std::sqrt(error / energy));
  json["seconds"] = report.seconds();
  json["peak_memory_bytes"] = report.peak_memory_bytes;
  return json;
}

Json patterns_json(const std::vector<PatternCount>& patterns) {
  Json json = Json::array();
  for (const PatternCount& count : patterns) {
    json.push_back({{"pattern", count.pattern},
                    {"kind", count.is_ignore ? "ignore" : "target"},
                    {"matches", count.matches}});
  }
  return json;
}

}  // namespace

ModuleRow make_row(const PlannedModule& quantized) {
  return {.name = quantized.module->name,
          .scheme = scheme_label(*quantized.scheme),
          .format = std::string(to_string(quantized.format)),
          .bits = quantized.scheme->weights->num_bits,
          .weights = quantized.weights(),
          .bytes = quantized.bytes(),
          .changes = {}};
}

std::int64_t RunReport::quantized_weights() const {
  std::int64_t total = 0;
  for (const ModuleRow& row : modules) total += row.weights;
  return total;
}

std::uint64_t RunReport::quantized_bytes() const {
  std::uint64_t total = 0;
  for (const ModuleRow& row : modules) total += row.bytes;
  return total;
}

double RunReport::bits_per_weight() const {
  const std::int64_t weights = quantized_weights();
  return weights > 0 ? 8.0 * static_cast<double>(quantized_bytes()) / static_cast<double>(weights) : 0;
}

double RunReport::bits_per_parameter(std::uint64_t bytes) const {
  return parameters > 0 ? 8.0 * static_cast<double>(bytes) / static_cast<double>(parameters) : 0;
}

double RunReport::seconds() const {
  double total = 0;
  for (const auto& [name, value] : phases) total += value;
  return total;
}

Json to_json(const RunReport& report) {
  Json json = Json::object();
  json["model"] = report.model;
  json["architecture"] = report.architecture;
  json["output_dir"] = report.output_dir.empty() ? Json(nullptr) : Json(report.output_dir);
  json["precision"] = report.precision;
  json["threads"] = report.threads;
  json["seed"] = report.seed;
  json["pipeline"] = report.pipeline;
  if (!report.calibration_data.empty()) {
    json["calibration"] = {{"data", report.calibration_data},
                           {"hash", report.calibration_hash},
                           {"samples", report.calibration_samples},
                           {"tokens", report.calibration_tokens}};
  }
  json["totals"] = totals_json(report);
  json["phases"] = Json::object();
  for (const auto& [name, seconds] : report.phases) json["phases"][name] = seconds;
  json["modules"] = Json::array();
  for (const ModuleRow& row : report.modules) json["modules"].push_back(row_json(row));
  if (!report.changed.empty()) {
    json["changed"] = Json::array();
    for (const ModuleRow& row : report.changed) json["changed"].push_back(row_json(row));
  }
  json["unquantized"] = report.unquantized;
  json["patterns"] = patterns_json(report.patterns);
  json["files"] = Json::object();
  for (const auto& [name, bytes] : report.files) json["files"][name] = bytes;
  json["copied_files"] = report.copied_files;
  json["warnings"] = report.warnings;
  json["recipe"] = report.recipe;
  return json;
}

}  // namespace nibble
