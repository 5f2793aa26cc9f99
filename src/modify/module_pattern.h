// SPDX-License-Identifier: Apache-2.0
// Targets and ignore entries of recipes against the module tree: checkpoint/module_match.h with the classes
// of a module filled in, and what reports and messages say of them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/module_match.h"
#include "model/modules.h"
#include "modify/recipe_value.h"

namespace nibble {

// The class of a module and those base classes that recipes name. A router is no nn.Linear in the reference,
// although it acts as one; every embedding is an nn.Embedding.
std::vector<std::string_view> classes_of(const ModuleInfo& module);

bool matches(const ModuleTarget& target, const ModuleInfo& module);

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

// "did you mean ...", from the names and classes of the model; for an expression from the parts of names that
// are nearest to the longest word in it.
std::string nearest_module(const std::string& pattern, const ModelDescription& model);

}  // namespace nibble
