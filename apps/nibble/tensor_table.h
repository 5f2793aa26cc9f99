// SPDX-License-Identifier: Apache-2.0
// The table of `nibble inspect`: all tensors with their ranges.
#pragma once

#include "checkpoint/checkpoint.h"
#include "program.h"

namespace nibble::app {

struct TensorTableOptions {
  bool statistics = true;  // reads every value; off: headers only
  bool histograms = false;
};

Status print_tensors(Program& program, const Checkpoint& checkpoint, const TensorTableOptions& options);

}  // namespace nibble::app
