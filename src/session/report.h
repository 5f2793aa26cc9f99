// SPDX-License-Identifier: Apache-2.0
// report.json: what a run did, a row a module, and totals. The keys are promised in docs/report.md; new ones
// may be added.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/json_fwd.h"
#include "modify/modifier.h"
#include "session/output_plan.h"

namespace nibble {

struct ModuleRow {
  std::string name;
  std::string scheme;  // scheme_label()
  std::string format;
  int bits = 0;
  std::int64_t weights = 0;
  std::uint64_t bytes = 0;           // of all its tensors
  std::vector<LayerReport> changes;  // by modifier, in order; empty in a plan

  double bits_per_weight() const {
    return weights > 0 ? 8.0 * static_cast<double>(bytes) / static_cast<double>(weights) : 0;
  }
};
ModuleRow make_row(const PlannedModule& quantized);

struct RunReport {
  std::string model;
  std::string architecture;
  std::string output_dir;  // empty: nothing was saved
  std::string recipe;      // recipe.yaml
  std::vector<ModuleRow> modules;
  std::vector<ModuleRow> changed;        // modules with other weights that are not quantized
  std::vector<std::string> unquantized;  // linears and embeddings that stay as they are
  std::vector<PatternCount> patterns;
  std::int64_t parameters = 0;     // of the source
  std::uint64_t source_bytes = 0;  // tensor data of the source
  std::uint64_t output_bytes = 0;  // exact: shards and index
  std::uint64_t carried_bytes = 0;
  std::vector<std::pair<std::string, std::uint64_t>> files;  // of the output: name and bytes
  std::vector<std::string> copied_files;
  std::vector<std::string> warnings;
  std::vector<std::pair<std::string, double>> phases;  // name and seconds
  std::uint64_t peak_memory_bytes = 0;
  std::string pipeline;          // "stage-wise", "independent", "data_free" ...
  std::string calibration_data;  // where the tokens came from; empty without
  std::string calibration_hash;  // equal hashes mean equal tokens
  std::int64_t calibration_samples = 0;
  std::int64_t calibration_tokens = 0;
  std::string precision;
  int threads = 0;
  std::uint64_t seed = 0;

  std::int64_t quantized_weights() const;
  std::uint64_t quantized_bytes() const;
  double bits_per_weight() const;  // of the quantized modules
  // Of the whole model, for a size of `bytes`.
  double bits_per_parameter(std::uint64_t bytes) const;
  double seconds() const;
};

Json to_json(const RunReport& report);

}  // namespace nibble
