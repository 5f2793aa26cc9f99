// SPDX-License-Identifier: Apache-2.0
// A recipe: an ordered list of modifiers, read from YAML, JSON, Markdown front matter or a string, in the
// grammar of llm-compressor, and written back with every default resolved.
//
//   quant_stage:                      # keys that end in _stage
//     quant_modifiers:                # keys that end in _modifiers
//       GPTQModifier: {scheme: W4A16, ignore: [lm_head]}
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json_fwd.h"
#include "modify/modifier_config.h"

namespace nibble {

struct Recipe {
  RecipeValue args = RecipeValue::Map{};
  std::string stage = "default";  // the last stage's name, as the reference has it
  std::vector<ModifierConfig> modifiers;
  std::vector<std::string> stages;    // every stage key of the text, selected or not
  std::vector<std::string> warnings;  // what was ignored, completed or read in an old form

  bool empty() const { return modifiers.empty(); }
};

struct RecipeOptions {
  // "key=value": replaces a variable of the recipe's `args`; `$key` in the recipe stands for it.
  std::vector<std::string> recipe_args = {};
  // Only the stages whose key starts with this; empty: all.
  std::string stage = {};
  RecipeRules rules = {};
};

enum class RecipeSyntax { kYaml, kJson, kMarkdown, kAny };

// `recipe` is the path of a file, or the text itself.
Result<Recipe> load_recipe(const std::string& recipe, const RecipeOptions& options = {});
Result<Recipe> parse_recipe(std::string_view text, RecipeSyntax syntax, const RecipeOptions& options = {});
// One list of modifiers from several recipes, in order.
Recipe join_recipes(std::vector<Recipe> recipes);

// recipe.yaml: the tree, and its text. `existing` is a recipe that the source model already carries; stages
// of equal name get numbers, as the reference does. The reference leaves out every null, so that an argument
// set to null comes back as its default; unless `rules` are strict, such a null is written.
Result<RecipeValue> recipe_tree(const Recipe& recipe, const RecipeRules& rules = {});
RecipeValue append_recipe_tree(RecipeValue existing, const RecipeValue& added);
Result<std::string> recipe_to_yaml(const Recipe& recipe, const RecipeRules& rules = {});

// The canonical form: stage, args, and each modifier with all fields and its resolved groups.
Result<Json> recipe_to_json(const Recipe& recipe);

}  // namespace nibble
