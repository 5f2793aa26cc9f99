// SPDX-License-Identifier: Apache-2.0
// docs/recipes.md, made from the table of modifiers so that it cannot go stale.
#pragma once

#include <string>

namespace nibble {

std::string recipes_markdown();

}  // namespace nibble
