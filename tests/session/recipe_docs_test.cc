// SPDX-License-Identifier: Apache-2.0
#include "session/recipe_docs.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"

namespace nibble {
namespace {

// To write it anew: copy the file that the failing test names over docs/recipes.md.
TEST(RecipeDocsTest, DocumentationIsThatOfTheTable) {
  const auto text = read_text_file(std::filesystem::path(NIBBLE_SOURCE_DIR) / "docs/recipes.md");
  const std::string expected = recipes_markdown();
  if (text.ok() && *text == expected) return;
  const std::filesystem::path fresh = std::filesystem::temp_directory_path() / "nibble-recipes.md";
  ASSERT_TRUE(write_file_durably(fresh, expected).ok());
  ADD_FAILURE() << "docs/recipes.md is stale; the fresh text is " << fresh;
}

}  // namespace
}  // namespace nibble
