// SPDX-License-Identifier: Apache-2.0
// Runs a check at every CPU level of this machine and restores the level afterwards; small random data.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/cpu_level.h"

namespace nibble::kernels::testing {

template <class Check>
void at_every_level(Check check) {
  const CpuLevel before = active_level();
  for (const CpuLevel level : available_levels()) {
    SCOPED_TRACE(std::string(level_name(level)));
    set_active_level(level);
    check(level);
  }
  set_active_level(before);
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  std::uint32_t bits() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::uint32_t>(state_ >> 32);
  }
  float uniform(float lo = -1.0f, float hi = 1.0f) {
    return lo + (hi - lo) * (static_cast<float>(bits() >> 8) / 16777216.0f);
  }
  std::vector<float> floats(std::int64_t count, float lo = -1.0f, float hi = 1.0f) {
    std::vector<float> out(static_cast<std::size_t>(count));
    for (float& v : out) v = uniform(lo, hi);
    return out;
  }

 private:
  std::uint64_t state_;
};

inline const float* shifted(const std::vector<float>& v, std::size_t by) {
  return v.data() + by;
}

}  // namespace nibble::kernels::testing
