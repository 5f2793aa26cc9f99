// SPDX-License-Identifier: Apache-2.0
// The tables of `nibble inspect`: all tensors with their ranges, and the zeros of prunable layers.
#pragma once

#include "checkpoint/checkpoint.h"
#include "program.h"

namespace nibble::app {

struct TensorTableOptions {
  bool statistics = true;  // reads every value; off: headers only
  bool histograms = false;
};

Status print_tensors(Program& program, const Checkpoint& checkpoint, const TensorTableOptions& options);

// Every prunable layer with a weight: {sparsity, num_params, num_zeros}, and their sum as "_total".
Status print_sparsity(Program& program, const Checkpoint& checkpoint);

}  // namespace nibble::app
