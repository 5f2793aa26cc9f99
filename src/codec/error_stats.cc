// SPDX-License-Identifier: Apache-2.0
#include "codec/error_stats.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nibble {

void RowErrors::add(std::span<const float> original, std::span<const float> stored) {
  // Short fp32 chains in a fixed order, fp64 beyond: exact to about 1e-7, and simple enough for vectors.
  constexpr std::size_t kChains = 16;
  constexpr std::size_t kStretch = 128;
  for (std::size_t first = 0; first < original.size(); first += kStretch) {
    const std::size_t last = std::min(first + kStretch, original.size());
    float squares[kChains] = {};
    float errors[kChains] = {};
    float largest[kChains] = {};
    const auto one = [&](std::size_t i, std::size_t chain) {
      const float e = std::fabs(original[i] - stored[i]);
      squares[chain] += original[i] * original[i];
      errors[chain] += e * e;
      largest[chain] = e > largest[chain] ? e : largest[chain];
    };
    std::size_t i = first;
    for (; i + kChains <= last; i += kChains) {
      for (std::size_t chain = 0; chain < kChains; ++chain) one(i + chain, chain);
    }
    for (; i < last; ++i) one(i, i % kChains);
    for (std::size_t chain = 0; chain < kChains; ++chain) {
      signal += static_cast<double>(squares[chain]);
      noise += static_cast<double>(errors[chain]);
      max_error = std::max(max_error, static_cast<double>(largest[chain]));
    }
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
