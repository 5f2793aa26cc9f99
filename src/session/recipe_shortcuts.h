// SPDX-License-Identifier: Apache-2.0
// Recipes for those who do not want to write one: a preset scheme and a method.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "session/recipe.h"

namespace nibble {

struct Shortcut {
  std::string scheme;                           // a preset
  std::string method = "rtn";                   // a row of method_table()
  std::optional<std::int64_t> group_size = {};  // another one than the preset's; -1: one scale a row
  std::vector<std::string> ignore = {};
};

struct MethodRow {
  std::string name;
  std::string summary;
  std::vector<std::string> modifiers;  // class names; the last one quantizes
};
const std::vector<MethodRow>& method_table();

Result<Recipe> recipe_of_shortcut(const Shortcut& shortcut);

}  // namespace nibble
