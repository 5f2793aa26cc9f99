// SPDX-License-Identifier: Apache-2.0
// Memory and time of a run before it starts.
#pragma once

#include "session/job.h"

namespace nibble {

Estimate estimate_data_free(const Checkpoint& checkpoint, const OutputPlan& plan, std::uint64_t memory_budget,
                            ThreadPool& pool);

}  // namespace nibble
