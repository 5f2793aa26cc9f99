// SPDX-License-Identifier: Apache-2.0
// The end of a oneshot run for people: what became of the model, scheme by scheme, and the modules that lost
// most.
#pragma once

#include <string>

#include "session/report.h"

namespace nibble::app {

std::string run_summary(const RunReport& report);

}  // namespace nibble::app
