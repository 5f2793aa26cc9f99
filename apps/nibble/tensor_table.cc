// SPDX-License-Identifier: Apache-2.0
#include "tensor_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/byte_size.h"
#include "base/json.h"
#include "checkpoint/tensor_statistics.h"
#include "format.h"

namespace nibble::app {
namespace {

constexpr int kBins = 24;

// Bins as blocks of eight heights; the highest bin fills its place.
std::string sparkline(const std::vector<std::int64_t>& bins) {
  constexpr const char* kBlocks[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const std::int64_t highest = std::max<std::int64_t>(1, *std::max_element(bins.begin(), bins.end()));
  std::string text;
  for (const std::int64_t bin : bins) {
    text += kBlocks[bin == 0 ? 0 : 1 + bin * 7 / highest];
  }
  return text;
}

Json statistics_json(const TensorStatistics& s) {
  return {{"min", s.minimum},
          {"max", s.maximum},
          {"mean", s.mean},
          {"deviation", s.deviation},
          {"zeros", s.zeros},
          {"sparsity", s.sparsity()},
          {"nans", s.nans},
          {"infinities", s.infinities},
          {"kurtosis", s.kurtosis},
          {"absolute_mean", s.absolute_mean},
          {"absolute_maximum", s.absolute_maximum}};
}

// One row of the table; fills the statistics into `entry`. Ranges of codes in integer tensors mean nothing.
Result<std::vector<std::string>> describe(Program& program, const Checkpoint& checkpoint,
                                          const TensorInfo& info, const TensorTableOptions& options,
                                          Json& entry) {
  std::vector<std::string> cells{info.name, info.stored_as,
                                 info.shape.empty() ? "scalar" : to_string(info.shape),
                                 format_count(static_cast<std::int64_t>(info.stored_bytes))};
  if (!options.statistics) return cells;
  if (!is_float(info.dtype)) {
    cells.resize(options.histograms ? 9 : 8);
    return cells;
  }
  TRY_ASSIGN(const Tensor tensor, checkpoint.load(info.name));
  ThreadPool& pool = program.context().pool;
  const TensorStatistics statistics = tensor_statistics(tensor, pool);
  entry.update(statistics_json(statistics));
  cells.push_back(format_number(statistics.minimum));
  cells.push_back(format_number(statistics.maximum));
  cells.push_back(fmt::format("{:.2f} %", 100 * statistics.sparsity()));
  const std::int64_t broken = statistics.nans + statistics.infinities;
  cells.push_back(broken == 0 ? std::string() : fmt::format("{} not finite", broken));
  if (options.histograms) {
    const auto bins = tensor_histogram(tensor, statistics.minimum, statistics.maximum, kBins, pool);
    entry["histogram"] = bins;
    cells.push_back(sparkline(bins));
  }
  checkpoint.release(info.name);
  return cells;
}

}  // namespace

Status print_tensors(Program& program, const Checkpoint& checkpoint, const TensorTableOptions& options) {
  std::vector<std::string> header{"tensor", "type", "shape", "bytes"};
  if (options.statistics) header.insert(header.end(), {"min", "max", "zeros", ""});
  if (options.statistics && options.histograms) header.push_back("from min to max");
  Table table(header);
  Json tensors = Json::array();
  std::int64_t elements = 0;
  std::uint64_t bytes = 0;
  const double total = static_cast<double>(checkpoint.tensors().size());
  for (const TensorInfo& info : checkpoint.tensors()) {
    if (program.context().stop.stop_requested()) return Error{ErrorCode::kInterrupted, "stopped", {}, {}};
    Json entry{{"name", info.name},
               {"stored_as", info.stored_as},
               {"shape", info.shape},
               {"bytes", info.stored_bytes},
               {"file", info.file}};
    TRY_ASSIGN(std::vector<std::string> cells, describe(program, checkpoint, info, options, entry));
    table.row(std::move(cells));
    tensors.push_back(std::move(entry));
    elements += element_count(info.shape);
    bytes += info.stored_bytes;
    program.context().events.progress("read", static_cast<double>(tensors.size()), total);
  }
  const std::string text =
      fmt::format("{}: {} tensors, {} values, {}\n\n{}", checkpoint.path().string(), tensors.size(),
                  format_count(elements), format_byte_size(bytes), table.text());
  return program.print({{"path", checkpoint.path().string()},
                        {"elements", elements},
                        {"bytes", bytes},
                        {"tensors", std::move(tensors)}},
                       text);
}

}  // namespace nibble::app
