// SPDX-License-Identifier: Apache-2.0
// Any text is a recipe or an error; a recipe that was read can be written and read again with the same
// meaning.
#include <cstdlib>

#include "base/json.h"
#include "session/recipe.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace nibble;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const RecipeSyntax syntax : {RecipeSyntax::kAny, RecipeSyntax::kMarkdown}) {
    const auto recipe = parse_recipe(text, syntax);
    if (!recipe.ok()) continue;
    const auto yaml = recipe_to_yaml(*recipe);
    if (!yaml.ok() || !recipe_to_json(*recipe).ok()) continue;
    const auto again = parse_recipe(*yaml, RecipeSyntax::kYaml);
    if (!again.ok() || *recipe_to_yaml(*again) != *yaml) std::abort();
  }
  return 0;
}
