// SPDX-License-Identifier: Apache-2.0
// Memory and time of a run before it starts.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "session/output_plan.h"

namespace nibble {

// Program, libraries, configuration and buffers of a run, in bytes.
inline constexpr std::uint64_t kFixedMemory = std::uint64_t{64} << 20;

struct Estimate {
  std::uint64_t peak_memory_bytes = 0;
  double seconds = 0;  // from a measurement of a few milliseconds on this machine
};

Estimate estimate_data_free(const Checkpoint& checkpoint, const OutputPlan& plan, std::uint64_t memory_budget,
                            ThreadPool& pool);

}  // namespace nibble
