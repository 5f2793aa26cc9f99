// SPDX-License-Identifier: Apache-2.0
// `activation_hook_target` of an AWQ mapping: the module whose input is observed instead of that of the first
// balance layer, as a path from the innermost module that holds the mapping ("mlp" where experts are
// balanced).
#pragma once

#include <string>

#include "modify/smooth_mapping.h"

namespace nibble {

// Linears of one stage share their input, so every module that begins with that stage has the input that is
// observed anyway. Refuses a path without a module, and one with another input: its channels are not those
// that are scaled.
Status check_observed_input(const ModelDescription& model, const SmoothMapping& mapping,
                            const std::string& path);

}  // namespace nibble
