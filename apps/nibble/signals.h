// SPDX-License-Identifier: Apache-2.0
// Ctrl-C and SIGTERM ask for a stop; work ends at the next safe point. A second one ends the process at once.
#pragma once

#include "base/events.h"

namespace nibble::app {

// The token that the handlers set; handlers are installed by the first call.
const StopToken& stop_on_signals();

}  // namespace nibble::app
