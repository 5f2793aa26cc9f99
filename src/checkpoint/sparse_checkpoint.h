// SPDX-License-Identifier: Apache-2.0
// A checkpoint whose pruned weights are stored in a sparse form (codec/sparse_format.h), seen with the
// weights themselves: `M.weight` in place of `M.compressed`, `M.bitmask` and the others.
#pragma once

#include <memory>

#include "checkpoint/checkpoint.h"

namespace nibble {

// Follows `sparsity_config` of quantization_config; any other checkpoint comes back as it is. What the
// weights stand for (codes, values) is still said by the rest of quantization_config. Refuses parts that are
// missing or stand beside a dense weight.
Result<std::unique_ptr<Checkpoint>> with_sparse_weights(std::unique_ptr<Checkpoint> checkpoint);

}  // namespace nibble
