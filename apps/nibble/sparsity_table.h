// SPDX-License-Identifier: Apache-2.0
// `nibble inspect --sparsity`: how many zeros a model has, and in what structure.
#pragma once

#include "checkpoint/checkpoint.h"
#include "program.h"

namespace nibble::app {

// JSON has a row a layer: {sparsity, num_params, num_zeros, ...}, their sum as "_total", and "_blocks",
// "_tensors", "_model". The text has a row a block, with `each_tensor` one a tensor.
Status print_sparsity(Program& program, const Checkpoint& checkpoint, bool each_tensor);

}  // namespace nibble::app
