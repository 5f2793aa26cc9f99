// SPDX-License-Identifier: Apache-2.0
#include "codec/error_stats.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nibble {

void RowErrors::add(DType type, const void* original, std::span<const float> stored) {
  const auto values = static_cast<std::int64_t>(stored.size());
  kernels::add_errors_of_row(type, original, values, stored.data(), sums);
  count += values;
}

void ErrorStats::add(const RowErrors& row) {
  total_.sums.signal += row.sums.signal;
  total_.sums.noise += row.sums.noise;
  total_.sums.max_error = std::max(total_.sums.max_error, row.sums.max_error);
  total_.count += row.count;
}

void ErrorStats::add(std::span<const float> original, std::span<const float> stored) {
  RowErrors row;
  row.add(DType::kF32, original.data(), stored);
  add(row);
}

double ErrorStats::sqnr_db() const {
  if (total_.sums.noise == 0) {
    return total_.count == 0 ? std::numeric_limits<double>::quiet_NaN()
                             : std::numeric_limits<double>::infinity();
  }
  return 10 * std::log10(total_.sums.signal / total_.sums.noise);
}

double ErrorStats::relative_error() const {
  if (total_.sums.noise == 0) return 0;
  return std::sqrt(total_.sums.noise / total_.sums.signal);
}

double ErrorStats::mse() const {
  return total_.count == 0 ? 0 : total_.sums.noise / static_cast<double>(total_.count);
}

}  // namespace nibble
