// SPDX-License-Identifier: Apache-2.0
// The texts of --help: examples first, then what can be changed.
#pragma once

#include <span>
#include <string>

#include "flags.h"
#include "verb.h"

namespace nibble::app {

struct HelpRow {
  const char* name;
  const char* text;
};
std::span<const HelpRow> exit_codes();
std::span<const HelpRow> environment_variables();

std::string overview_help();
std::string verb_help(const VerbEntry& entry, const Flags& flags);
std::string version_text();  // "nibble 0.1.0 (commit 43a250e)"
std::string version_number();
std::string version_commit();

}  // namespace nibble::app
