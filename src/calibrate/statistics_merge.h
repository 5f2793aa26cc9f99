// SPDX-License-Identifier: Apache-2.0
// Statistics of two data sets become those of both, and what people ask a statistics file.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "base/context.h"
#include "calibrate/statistics_file.h"

namespace nibble {

// Weighted by tokens. A side that saw no token leaves the other as it is. Shifts and halves belong to one run
// and are left out.
SavedInput merged(const SavedInput& a, const SavedInput& b);
SavedOutput merged(const SavedOutput& a, const SavedOutput& b);

// What a run over both data sets would have gathered, up to rounding. Refuses files of different models or
// settings, with different entries, with a data set in common, and statistics behind changed layers: each of
// their runs changed the layers in its own way.
Status merge_statistics(const StatisticsFile& a, const StatisticsFile& b, const std::filesystem::path& out,
                        Context& context);

struct InputSummary {
  std::string set;
  std::vector<std::string> modules;
  std::int64_t cols = 0, tokens = 0, sequences = 0;
  std::vector<std::string> statistics;  // "columns", "second_moments", "sample", "shift"
  std::optional<double> trace;          // of the second moments: E |x|^2
  // Largest over smallest eigenvalue of the second moments (64 steps of power iteration each, never above the
  // true one); empty also where they are not positive definite in fp64.
  std::optional<double> condition;
};
Result<std::vector<InputSummary>> summarise_statistics(const StatisticsFile& file, Context& context);

}  // namespace nibble
