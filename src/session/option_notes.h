// SPDX-License-Identifier: Apache-2.0
// No option is taken and forgotten: one that contradicts another is refused, one without effect in this run
// gets a sentence that says so.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "model/modules.h"
#include "nibble/options.h"

namespace nibble {

Status check_options(const Options& options);
// `needs_data`: whether the recipe looks at calibration data at all.
std::vector<std::string> options_without_effect(const Options& options, const ModelDescription& model,
                                                bool needs_data);

}  // namespace nibble
