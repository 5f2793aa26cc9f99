// SPDX-License-Identifier: Apache-2.0
// Targets and ignore entries of recipes against the module tree (model/module_lookup.h): what reports and
// messages say of them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/module_match.h"
#include "model/module_lookup.h"
#include "modify/recipe_value.h"

namespace nibble {

// An error when an expression anywhere in the value (targets, ignore, mappings, groups) backtracks without
// end on a name of the model: whatever matches names later cannot say so.
Status check_patterns(const RecipeValue& value, const ModelDescription& model);

// A pattern and how many modules it matched, for reports; zero is an error or a warning.
struct PatternCount {
  std::string pattern;
  bool is_ignore = false;
  std::int64_t matches = 0;
};
std::vector<PatternCount> count_matches(const ModuleTargets& targets, bool is_ignore,
                                        const ModelDescription& model);

}  // namespace nibble
