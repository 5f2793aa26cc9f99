// SPDX-License-Identifier: Apache-2.0
#include "sparsity_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <set>

#include "base/json.h"
#include "format.h"
#include "model/sparsity_report.h"

namespace nibble::app {
namespace {

constexpr std::size_t kMostBreaks = 8;  // shown as text; JSON has all of them

std::string percent(double share) {
  return fmt::format("{:.2f} %", 100 * share);
}

Json break_json(const std::optional<PatternBreak>& broken) {
  if (!broken) return nullptr;
  return {{"row", broken->row}, {"column", broken->column}, {"zeros", broken->zeros}};
}

// Kept and pruned places of four columns: "1010" keeps the first and the third.
std::string quad_name(unsigned zeros) {
  std::string name;
  for (unsigned i = 0; i < 4; ++i) name += ((zeros >> i) & 1) != 0 ? '0' : '1';
  return name;
}

Json counts_json(std::int64_t params, std::int64_t zeros) {
  const double sparsity = params > 0 ? static_cast<double>(zeros) / static_cast<double>(params) : 0.0;
  return {{"sparsity", sparsity}, {"density", 1 - sparsity}, {"num_params", params}, {"num_zeros", zeros}};
}

Json layer_json(const TensorSparsity& layer) {
  const MaskStatistics& mask = layer.mask;
  Json row = counts_json(mask.count(), mask.zeros);
  row["block"] = layer.block < 0 ? Json(nullptr) : Json(layer.block);
  row["quantized"] = layer.quantized;
  row["structure"] = mask.structure();
  row["is_2_4"] = mask.is_exactly_two_of_four();
  row["fits_2_4"] = mask.count() > 0 && mask.groups_met({2, 4}) == mask.groups_of(4);
  row["zero_rows"] = mask.zero_rows;
  row["zero_columns"] = mask.zero_cols;
  row["zeros_of_four"] = Json::array();
  for (std::size_t k = 0; k <= 4; ++k) row["zeros_of_four"].push_back(mask.groups[0][k]);
  row["quads"] = Json::object();
  for (unsigned q = 0; q < 16; ++q) {
    if (std::popcount(q) == 2) row["quads"][quad_name(q)] = mask.quads[q];
  }
  row["patterns"] = Json::object();
  for (const PatternFit& fit : layer.patterns) {
    row["patterns"][to_string(fit.pattern)] = {{"groups", fit.groups},
                                               {"met", fit.met},
                                               {"exact", fit.exact},
                                               {"broken_at", break_json(fit.broken_at)}};
  }
  return row;
}

Json totals_json(const SparsityTotals& totals) {
  Json row = counts_json(totals.params, totals.zeros);
  row["prunable_params"] = totals.prunable_params;
  row["prunable_zeros"] = totals.prunable_zeros;
  row["prunable_sparsity"] = totals.prunable_sparsity();
  row["quantized_params"] = totals.quantized_params;
  return row;
}

Json document_of(const SparsityReport& report) {
  Json document = Json::object();
  Json tensors = Json::array();
  for (const TensorSparsity& tensor : report.tensors) {
    if (tensor.prunable) {
      document[tensor.name] = layer_json(tensor);
      continue;
    }
    Json row = counts_json(tensor.mask.count(), tensor.mask.zeros);
    row["name"] = tensor.name;
    row["quantized"] = tensor.quantized;
    tensors.push_back(std::move(row));
  }
  document["_total"] = counts_json(report.total.prunable_params, report.total.prunable_zeros);
  document["_model"] = totals_json(report.total);
  document["_blocks"] = Json::array();
  for (const auto& [block, totals] : report.blocks) {
    Json row = totals_json(totals);
    row["block"] = block;
    document["_blocks"].push_back(std::move(row));
  }
  document["_tensors"] = std::move(tensors);
  return document;
}

// What the layers of a block have in common, or all that they have.
std::string structures_of(const SparsityReport& report, std::optional<int> block) {
  std::set<std::string> found;
  for (const TensorSparsity& tensor : report.tensors) {
    if (tensor.prunable && (!block || tensor.block == *block)) found.insert(tensor.mask.structure());
  }
  return fmt::format("{}", fmt::join(found, ", "));
}

std::vector<std::string> totals_cells(const std::string& name, const SparsityTotals& totals,
                                      std::string structure) {
  return {name,
          format_count(totals.params),
          format_count(totals.prunable_params),
          format_count(totals.quantized_params),
          format_count(totals.prunable_zeros),
          totals.prunable_params > 0 ? percent(totals.prunable_sparsity()) : std::string(),
          std::move(structure)};
}

Table block_table(const SparsityReport& report) {
  Table table({"block", "params", "prunable", "quantized", "zeros", "sparsity", "structure"});
  SparsityTotals outside;
  for (const TensorSparsity& tensor : report.tensors) {
    if (tensor.block < 0) outside.add(tensor);
  }
  for (const auto& [block, totals] : report.blocks)
    table.row(totals_cells(fmt::to_string(block), totals, structures_of(report, block)));
  if (outside.params > 0) table.row(totals_cells("others", outside, structures_of(report, -1)));
  table.row(totals_cells("all", report.total, structures_of(report, std::nullopt)));
  return table;
}

Table tensor_table(const SparsityReport& report) {
  Table table({"layer or tensor", "params", "zeros", "sparsity", "structure", "2:4"});
  for (const TensorSparsity& tensor : report.tensors) {
    const MaskStatistics& mask = tensor.mask;
    const bool fits = mask.count() > 0 && mask.groups_met({2, 4}) == mask.groups_of(4);
    const char* fit = mask.is_exactly_two_of_four() ? "exact" : fits ? "fits" : "";
    table.row({tensor.name, format_count(mask.count()), format_count(mask.zeros), percent(mask.sparsity()),
               tensor.prunable ? mask.structure() : "", tensor.prunable ? fit : ""});
  }
  table.row({"_total", format_count(report.total.prunable_params), format_count(report.total.prunable_zeros),
             percent(report.total.prunable_sparsity()), "", ""});
  return table;
}

// Patterns that nearly hold, and where they first do not.
std::string breaks_text(const SparsityReport& report) {
  std::string text;
  std::size_t shown = 0, count = 0;
  for (const TensorSparsity& tensor : report.tensors) {
    if (tensor.mask.structure() != "unstructured") continue;
    const std::vector<MaskPattern> nearest = tensor.mask.nearest_patterns();
    for (const PatternFit& fit : tensor.patterns) {
      if (!fit.broken_at || std::find(nearest.begin(), nearest.end(), fit.pattern) == nearest.end()) continue;
      if (++count > kMostBreaks) continue;
      ++shown;
      text += fmt::format(
          "{}: {} of {} groups are {}; the first that is not: row {}, columns {} to {} ({} zeros)\n",
          tensor.name, format_count(fit.met), format_count(fit.groups), to_string(fit.pattern),
          fit.broken_at->row, fit.broken_at->column,
          std::min(tensor.mask.cols, fit.broken_at->column + fit.pattern.group) - 1, fit.broken_at->zeros);
    }
  }
  if (count > shown)
    text += fmt::format("{} more nearly hold a pattern (--json lists them)\n", count - shown);
  return text.empty() ? text : "\n" + text;
}

}  // namespace

Status print_sparsity(Program& program, const Checkpoint& checkpoint, bool each_tensor) {
  TRY_ASSIGN(const SparsityReport report, sparsity_report(checkpoint, program.context()));
  const std::string whole =
      fmt::format("{}: {} parameters, {} of them prunable, {} quantized; {} of the prunable are zero\n\n",
                  checkpoint.path().string(), format_count(report.total.params),
                  format_count(report.total.prunable_params), format_count(report.total.quantized_params),
                  percent(report.total.prunable_sparsity()));
  const Table table = each_tensor ? tensor_table(report) : block_table(report);
  return program.print(document_of(report), whole + table.text() + breaks_text(report));
}

}  // namespace nibble::app
