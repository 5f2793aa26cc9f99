// SPDX-License-Identifier: Apache-2.0
// Recipes against the forms that llm-compressor 0.14.0.1 gives them (tests/golden/recipes).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <regex>

#include "base/file.h"
#include "base/json.h"
#include "session/recipe.h"
#include "session/yaml.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;
const fs::path kGolden = fs::path(NIBBLE_SOURCE_DIR) / "tests/golden/recipes";

std::vector<fs::path> recipes_in(const char* folder) {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(kGolden / folder)) {
    const std::string name = entry.path().filename().string();
    if (name.find(".expected.json") == std::string::npos && name != "errors.json")
      out.push_back(entry.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

Json expected_of(const fs::path& recipe) {
  auto json = read_json_file(recipe.parent_path() / (recipe.stem().string() + ".expected.json"));
  EXPECT_TRUE(json.ok());
  return json.ok() ? *json : Json();
}

// Objects without regard to the order of keys.
std::string sorted(const Json& json) {
  return nlohmann::json::parse(json.dump()).dump(1);
}

std::string name_of(const ::testing::TestParamInfo<fs::path>& info) {
  return std::regex_replace(info.param.filename().string(), std::regex("[^A-Za-z0-9]"), "_");
}

// The dump without `!!python/...apply:X [value]`, which the reference cannot read back itself.
std::string without_python_tags(const std::string& text) {
  return std::regex_replace(text, std::regex(R"(!!python/object/apply:[A-Za-z_.]+ \[\s*(\w+)\])"), "$1");
}

// "static" is another word for "weight", and a dump gives it to the modifier beside groups that say "weight".
std::string meaning_of(const Recipe& recipe) {
  const auto yaml = recipe_to_yaml(recipe);
  EXPECT_TRUE(yaml.ok()) << yaml.error().message();
  return yaml.ok() ? std::regex_replace(*yaml, std::regex("actorder: weight"), "actorder: static") : "";
}

void expect_same_meaning(const std::string& text, const Recipe& recipe) {
  const auto again = parse_recipe(text, RecipeSyntax::kYaml);
  ASSERT_TRUE(again.ok()) << again.error().message();
  EXPECT_EQ(meaning_of(*again), meaning_of(recipe));
}

class ValidRecipe : public ::testing::TestWithParam<fs::path> {};

TEST_P(ValidRecipe, HasTheCanonicalFormOfTheReference) {
  const auto recipe = load_recipe(GetParam().string());
  ASSERT_TRUE(recipe.ok()) << recipe.error().message();
  Json expected = expected_of(GetParam());
  for (const char* key : {"yaml", "same_from_string", "with_stage"}) expected.erase(key);
  const auto json = recipe_to_json(*recipe);
  ASSERT_TRUE(json.ok()) << json.error().message();
  EXPECT_EQ(sorted(*json), sorted(expected));
}

TEST_P(ValidRecipe, HasTheSameFormUnderTheStrictRules) {
  const auto loose = load_recipe(GetParam().string());
  const auto strict = load_recipe(GetParam().string(), {.rules = {.strict = true}});
  ASSERT_TRUE(strict.ok()) << strict.error().message();
  EXPECT_EQ(*recipe_to_json(*loose), *recipe_to_json(*strict));
}

TEST_P(ValidRecipe, IsReadFromItsTextToo) {
  if (GetParam().extension() == ".md") return;  // only the file name says that there is front matter
  const auto text = read_text_file(GetParam());
  ASSERT_TRUE(text.ok());
  const auto recipe = load_recipe(*text + "\n");
  ASSERT_TRUE(recipe.ok()) << recipe.error().message();
  EXPECT_EQ(*recipe_to_json(*recipe), *recipe_to_json(*load_recipe(GetParam().string())));
}

TEST_P(ValidRecipe, IsWrittenAsTheReferenceWritesIt) {
  const auto recipe = load_recipe(GetParam().string());
  ASSERT_TRUE(recipe.ok());
  const auto yaml = recipe_to_yaml(*recipe, {.strict = true});
  ASSERT_TRUE(yaml.ok());
  const std::string dump = expected_of(GetParam())["yaml"].get<std::string>();
  if (dump.find("Sentinel") == std::string::npos) {
    EXPECT_EQ(*yaml, without_python_tags(dump));
  }
  // The sentinel stands for an argument that nobody gave; we leave it out.
  const auto theirs =
      read_yaml(std::regex_replace(dump, std::regex(R"( *offload_device: !!python[^\]]*\]\n)"), ""));
  const auto ours = read_yaml(*yaml);
  ASSERT_TRUE(theirs.ok() && ours.ok());
  EXPECT_EQ(*ours, *theirs);
}

TEST_P(ValidRecipe, MeansTheSameWhenReadBack) {
  const auto recipe = load_recipe(GetParam().string());
  ASSERT_TRUE(recipe.ok());
  expect_same_meaning(*recipe_to_yaml(*recipe), *recipe);
}

TEST_P(ValidRecipe, IsReadFromTheDumpOfTheReference) {
  const std::string dump = expected_of(GetParam())["yaml"].get<std::string>();
  const auto recipe = load_recipe(GetParam().string());
  ASSERT_TRUE(recipe.ok());
  // Its dump loses `actorder: null`, since it leaves out every null.
  if (GetParam().stem() != "gptq_actorder_null") expect_same_meaning(dump, *recipe);
}

TEST(ValidRecipes, SelectStagesAsTheReference) {
  int selections = 0;
  for (const fs::path& path : recipes_in("valid")) {
    const Json expected = expected_of(path);
    if (!expected.contains("with_stage")) continue;
    for (const auto& [stage, form] : expected["with_stage"].items()) {
      const auto recipe = load_recipe(path.string(), {.stage = stage});
      ASSERT_TRUE(recipe.ok()) << recipe.error().message();
      EXPECT_EQ(sorted(*recipe_to_json(*recipe)), sorted(form)) << path << " " << stage;
      ++selections;
    }
  }
  EXPECT_EQ(selections, 4);
}

INSTANTIATE_TEST_SUITE_P(Golden, ValidRecipe, ::testing::ValuesIn(recipes_in("valid")), name_of);

class InvalidRecipe : public ::testing::TestWithParam<fs::path> {};

// What goes wrong only with a model (apply_*) is tested with the plan.
TEST_P(InvalidRecipe, IsRefusedWithAReason) {
  const std::string name = GetParam().filename().string();
  const bool needs_model = name.starts_with("apply_") && name != "apply_unknown_observer.yaml";
  const auto recipe = load_recipe(GetParam().string(), {.rules = {.strict = true}});
  std::string message;
  if (!recipe.ok()) {
    message = recipe.error().message();
  } else if (const auto json = recipe_to_json(*recipe); !json.ok()) {
    message = json.error().message();
  }
  EXPECT_EQ(message.empty(), needs_model) << message;
  if (!message.empty()) {
    EXPECT_GT(message.size(), 20u) << message;
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, InvalidRecipe, ::testing::ValuesIn(recipes_in("invalid")), name_of);

// Four of them are accepted by default, since users mean something clear by them (docs/recipes.md).
TEST(InvalidRecipes, FourAreReadWithTheirObviousMeaningUnlessStrict) {
  std::vector<std::string> accepted;
  for (const fs::path& path : recipes_in("invalid")) {
    const std::string name = path.filename().string();
    const auto recipe = load_recipe(path.string());
    if (recipe.ok() && recipe_to_json(*recipe).ok() && !name.starts_with("apply_")) accepted.push_back(name);
  }
  EXPECT_THAT(accepted, ::testing::ElementsAre("awq_with_scheme.yaml", "null_body.yaml", "python_tag.yaml",
                                               "variable_not_substituted.yaml"));
}

}  // namespace
}  // namespace nibble
