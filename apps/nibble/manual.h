// SPDX-License-Identifier: Apache-2.0
// The manual page nibble(1), made from the tables of verbs and flags.
#pragma once

#include <string>

namespace nibble::app {

std::string manual_page();  // roff, macros of man(7)

}  // namespace nibble::app
