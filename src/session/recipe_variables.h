// SPDX-License-Identifier: Apache-2.0
// Variables of a recipe, an extension that the reference had in its early releases: a scalar `$name` stands
// for `args: {name: value}`, which `--set name=value` replaces.
#pragma once

#include "session/recipe.h"

namespace nibble {

// Takes `args` from the tree, replaces what `recipe_args` names, and puts the values in place of `$name`. In
// strict rules the tree stays as it is.
Status apply_variables(RecipeValue& tree, const RecipeOptions& options, RecipeValue& args);

}  // namespace nibble
