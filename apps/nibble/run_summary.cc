// SPDX-License-Identifier: Apache-2.0
#include "run_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/byte_size.h"
#include "format.h"

namespace nibble::app {
namespace {

constexpr std::size_t kWorst = 5;

struct SchemeTotal {
  std::string scheme;
  std::int64_t modules = 0;
  std::int64_t weights = 0;
  std::uint64_t bytes = 0;
  double weighted_square = 0;  // of relative errors, by weights
};

std::vector<SchemeTotal> totals_by_scheme(const RunReport& report) {
  std::vector<SchemeTotal> totals;
  for (const ModuleRow& row : report.modules) {
    auto it = std::find_if(totals.begin(), totals.end(),
                           [&](const SchemeTotal& t) { return t.scheme == row.scheme; });
    if (it == totals.end()) it = totals.insert(totals.end(), {.scheme = row.scheme});
    ++it->modules;
    it->weights += row.weights;
    it->bytes += row.bytes;
    const double error = row.changes.empty() ? 0 : row.changes.back().relative_error;
    it->weighted_square += static_cast<double>(row.weights) * error * error;
  }
  return totals;
}

std::string scheme_table(const RunReport& report) {
  Table table({"scheme", "modules", "weights", "bytes", "bits/weight", "relative error"});
  for (const SchemeTotal& total : totals_by_scheme(report)) {
    const double weights = static_cast<double>(std::max<std::int64_t>(total.weights, 1));
    table.row({total.scheme, format_count(total.modules), format_count(total.weights),
               format_count(static_cast<std::int64_t>(total.bytes)),
               fmt::format("{:.3f}", 8.0 * static_cast<double>(total.bytes) / weights),
               format_number(std::sqrt(total.weighted_square / weights))});
  }
  return table.text();
}

// The modules with the largest errors, beside what plain rounding would have lost where that is known.
std::string worst_table(const RunReport& report) {
  std::vector<const ModuleRow*> rows;
  bool has_rtn = false;
  for (const ModuleRow& row : report.modules) {
    if (row.changes.empty()) continue;
    rows.push_back(&row);
    has_rtn |= row.changes.back().rtn_relative_error.has_value();
  }
  std::stable_sort(rows.begin(), rows.end(), [](const ModuleRow* a, const ModuleRow* b) {
    return a->changes.back().relative_error > b->changes.back().relative_error;
  });
  rows.resize(std::min(rows.size(), kWorst));
  std::vector<std::string> header{"worst modules", "relative error", "SQNR dB"};
  if (has_rtn) header.push_back("rtn error");
  Table table(header);
  for (const ModuleRow* row : rows) {
    const LayerReport& change = row->changes.back();
    std::vector<std::string> cells{row->name, format_number(change.relative_error),
                                   fmt::format("{:.2f}", change.sqnr_db)};
    if (has_rtn) cells.push_back(format_number(change.rtn_relative_error.value_or(NAN)));
    table.row(std::move(cells));
  }
  return table.empty() ? std::string() : "\n" + table.text();
}

// Sizes beside what the parameters would take as 16-bit floats: a GGUF source may be packed already.
std::string size_table(const RunReport& report) {
  const std::uint64_t half = 2 * static_cast<std::uint64_t>(report.parameters);
  Table table({"whole model", "size", "bits/parameter", "of 16 bits"});
  const auto row = [&](const char* name, std::uint64_t bytes) {
    const double bits = report.bits_per_parameter(bytes);
    table.row(
        {name, format_byte_size(bytes), fmt::format("{:.2f}", bits), fmt::format("{:.1f} %", bits / 0.16)});
  };
  row("as 16-bit floats", half);
  row("source", report.source_bytes);
  row("output", report.output_bytes);
  std::string text = "\n" + table.text();
  if (report.output_bytes >= report.source_bytes && report.source_bytes > 0) {
    text += fmt::format(
        "the output is not smaller than the source, which stores {:.2f} bits per parameter already; {} of it "
        "are tensors the recipe keeps, in {}\n",
        report.bits_per_parameter(report.source_bytes), format_byte_size(report.carried_bytes),
        report.precision);
  }
  return text;
}

}  // namespace

std::string run_summary(const RunReport& report) {
  std::string text = scheme_table(report) + worst_table(report) + size_table(report);
  if (!report.warnings.empty()) text += "\nwarnings\n";
  for (const std::string& warning : report.warnings) text += fmt::format("  {}\n", warning);
  text += fmt::format("\ndone in {}, peak memory {}\n", format_duration(report.seconds()),
                      format_byte_size(report.peak_memory_bytes));
  text += report.output_dir.empty() ? std::string("nothing was saved: --output-dir says where to\n")
                                    : fmt::format("saved in {}\n", report.output_dir);
  return text;
}

}  // namespace nibble::app
