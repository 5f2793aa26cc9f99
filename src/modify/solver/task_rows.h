// SPDX-License-Identifier: Apache-2.0
// How many rows of a weight a task multiplies with a metric: every product packs the metric anew, so as many
// as leave no thread idle.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/thread_pool.h"

namespace nibble::solver {

inline std::int64_t task_rows(const ThreadPool& pool, std::int64_t rows) {
  constexpr std::int64_t kLeast = 64, kMost = 384;
  return std::clamp((rows + pool.size() - 1) / pool.size(), kLeast, kMost);
}

}  // namespace nibble::solver
