// SPDX-License-Identifier: Apache-2.0
// Memory and time of a run before it starts.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "session/output_plan.h"

namespace nibble {

struct Estimate {
  std::uint64_t peak_memory_bytes = 0;
  double seconds = 0;  // from a measurement of a few milliseconds on this machine
};

Estimate estimate_data_free(const Checkpoint& checkpoint, const OutputPlan& plan, std::uint64_t memory_budget,
                            ThreadPool& pool);

}  // namespace nibble
