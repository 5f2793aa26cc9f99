// SPDX-License-Identifier: Apache-2.0
#include "codec/error_stats.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nibble {

void RowErrors::add(std::span<const float> original, std::span<const float> stored) {
  // Eight chains keep the order of the sums fixed and the adders busy.
  constexpr std::size_t kChains = 8;
  double squares[kChains] = {};
  double errors[kChains] = {};
  double largest[kChains] = {};
  const auto one = [&](std::size_t i, std::size_t chain) {
    const double x = original[i];
    const double e = x - static_cast<double>(stored[i]);
    squares[chain] += x * x;
    errors[chain] += e * e;
    largest[chain] = std::max(largest[chain], std::fabs(e));
  };
  const std::size_t whole = original.size() / kChains * kChains;
  for (std::size_t i = 0; i < whole; i += kChains) {
    for (std::size_t chain = 0; chain < kChains; ++chain) one(i + chain, chain);
  }
  for (std::size_t i = whole; i < original.size(); ++i) one(i, i - whole);
  for (std::size_t chain = 0; chain < kChains; ++chain) {
    signal += squares[chain];
    noise += errors[chain];
    max_error = std::max(max_error, largest[chain]);
  }
  count += static_cast<std::int64_t>(original.size());
}

void ErrorStats::add(const RowErrors& row) {
  total_.signal += row.signal;
  total_.noise += row.noise;
  total_.max_error = std::max(total_.max_error, row.max_error);
  total_.count += row.count;
}

void ErrorStats::add(std::span<const float> original, std::span<const float> stored) {
  RowErrors row;
  row.add(original, stored);
  add(row);
}

double ErrorStats::sqnr_db() const {
  if (total_.noise == 0) {
    return total_.count == 0 ? std::numeric_limits<double>::quiet_NaN()
                             : std::numeric_limits<double>::infinity();
  }
  return 10 * std::log10(total_.signal / total_.noise);
}

double ErrorStats::relative_error() const {
  if (total_.noise == 0) return 0;
  return std::sqrt(total_.noise / total_.signal);
}

double ErrorStats::mse() const {
  return total_.count == 0 ? 0 : total_.noise / static_cast<double>(total_.count);
}

}  // namespace nibble
