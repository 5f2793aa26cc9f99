// SPDX-License-Identifier: Apache-2.0
// A checkpoint under another config.json: the tensors stay, what they mean is read anew.
#pragma once

#include <memory>

#include "base/json_fwd.h"
#include "checkpoint/checkpoint.h"

namespace nibble {

// How weights are stored is a property of the files: quantization_config stays that of `checkpoint`.
std::unique_ptr<Checkpoint> with_config(std::unique_ptr<Checkpoint> checkpoint, Json config);

}  // namespace nibble
