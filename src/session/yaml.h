// SPDX-License-Identifier: Apache-2.0
// YAML as recipes use it. Reading follows YAML 1.1 as PyYAML resolves scalars (`yes` is true, `1e-2` is a
// text), with two exceptions that recipes need: `2:4` stays a text instead of a base-60 number, and a key
// that stands twice is an error. Writing gives PyYAML's layout, since that is how recipe.yaml looks
// everywhere.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "modify/recipe_value.h"

namespace nibble {

struct YamlRules {
  // Accept the Python tags that dumps of the reference hold: tuples, enums, numpy scalars.
  bool python_tags = true;
};

Result<RecipeValue> read_yaml(std::string_view text, const YamlRules& rules = {});
// The value of a plain (unquoted) scalar: `8`, `true`, `0.5`, `null`, or the text itself.
RecipeValue resolve_yaml_scalar(const std::string& text);

// Block style outside, flow style for collections of scalars, lines of about 88 columns; ends with a newline.
std::string write_yaml(const RecipeValue& value);
// Whether a plain scalar would be read by PyYAML as something else than this text.
bool resolves_to_other_type(const std::string& text);

}  // namespace nibble
