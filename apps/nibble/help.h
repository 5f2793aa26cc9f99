// SPDX-License-Identifier: Apache-2.0
// The texts of --help: examples first, then what can be changed.
#pragma once

#include <string>

#include "flags.h"
#include "verb.h"

namespace nibble::app {

std::string overview_help();
std::string verb_help(const VerbEntry& entry, const Flags& flags);
std::string version_text();  // "nibble 0.1.0 (commit 43a250e)"
std::string version_number();
std::string version_commit();

}  // namespace nibble::app
