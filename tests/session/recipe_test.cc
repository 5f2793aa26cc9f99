// SPDX-License-Identifier: Apache-2.0
// Properties of the recipe reader and writer that no golden shows: messages, warnings, variables, old forms,
// limits.
#include "session/recipe.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "session/recipe_shortcuts.h"
#include "session/yaml.h"

namespace nibble {
namespace {

using ::testing::HasSubstr;

const std::string kHead = "quant_stage:\n  quant_modifiers:\n    ";

Result<Recipe> parse(const std::string& text, const RecipeOptions& options = {}) {
  return parse_recipe(text, RecipeSyntax::kYaml, options);
}

std::string error_of(const std::string& text, const RecipeOptions& options = {}) {
  const auto recipe = parse(text, options);
  return recipe.ok() ? "accepted" : recipe.error().message();
}

TEST(RecipeTest, UnknownNamesAreAnsweredWithTheNearest) {
  EXPECT_THAT(error_of(kHead + "GPTQModifer: {}"), HasSubstr("did you mean GPTQModifier?"));
  EXPECT_THAT(error_of(kHead + "GPTQModifier: {scheme: W4A16, dampening: 1}"),
              HasSubstr("did you mean dampening_frac?"));
  EXPECT_THAT(error_of(kHead + "QuantizationModifier: {scheme: W4A61}"), HasSubstr("did you mean W4A16"));
  EXPECT_THAT(
      error_of(kHead + "QuantizationModifier: {config_groups: {g: {targets: [Linear], weights: {bits: 4}}}}"),
      HasSubstr("did you mean num_bits?"));
  EXPECT_THAT(error_of(kHead + "QuantizationModifier: {scheme: W4A16, weight_observer: memory_minmax}"),
              HasSubstr("did you mean memoryless_minmax"));
}

TEST(RecipeTest, ErrorsNameTheLineAndTheModifier) {
  const std::string message = error_of(kHead + "GPTQModifier:\n      scheme: W4A16\n      block_size: many");
  EXPECT_THAT(message, HasSubstr("GPTQModifier"));
  EXPECT_THAT(message, HasSubstr("line 5"));
  EXPECT_THAT(message, HasSubstr("block_size is \"many\"; it must be an integer"));
}

TEST(RecipeTest, NumbersKeepToTheirBounds) {
  EXPECT_THAT(error_of(kHead + "SparseGPTModifier: {sparsity: 1.5}"), HasSubstr("allowed is 0 to 1"));
  EXPECT_THAT(error_of(kHead + "SparseGPTModifier: {sparsity: [0.5, -1]}"), HasSubstr("sparsity is -1"));
  EXPECT_THAT(error_of(kHead + "SparseGPTModifier: {}"), HasSubstr("sparsity is required"));
  EXPECT_EQ(error_of(kHead + "SparseGPTModifier: {sparsity: 5e-1}"), "accepted");
}

TEST(RecipeTest, StructureNeedsNoQuotes) {
  const auto recipe = parse(kHead + "SparseGPTModifier: {sparsity: 0.5, mask_structure: 2:4}");
  ASSERT_TRUE(recipe.ok()) << recipe.error().message();
  EXPECT_EQ(recipe->modifiers[0].arguments.text("mask_structure"), "2:4");
}

TEST(RecipeTest, WhatTheReferenceIgnoresSilentlyIsNamed) {
  const auto recipe =
      parse("metadata: {a: 1}\n" + kHead + "QuantizationModifier: {scheme: W8A8}\n  run_type: oneshot\n");
  ASSERT_TRUE(recipe.ok());
  ASSERT_EQ(recipe->warnings.size(), 2u);
  EXPECT_THAT(recipe->warnings[0], HasSubstr("\"metadata\" is ignored"));
  EXPECT_THAT(recipe->warnings[1], HasSubstr("\"run_type\" is ignored"));
}

TEST(RecipeTest, LeftoversOfOlderReleasesAreNotedAndStrictRulesRefuseThem) {
  const std::string text = kHead + "GPTQModifier: {scheme: W4A16, offload_hessians: true}";
  const auto recipe = parse(text);
  ASSERT_TRUE(recipe.ok());
  EXPECT_THAT(recipe->warnings, ::testing::ElementsAre(HasSubstr("offload_hessians has no effect")));
  EXPECT_THAT(error_of(text, {.rules = {.strict = true}}),
              HasSubstr("unknown argument \"offload_hessians\""));
}

TEST(RecipeTest, VariablesComeFromArgsAndSettings) {
  const std::string text = "args: {damp: 0.1, size: 64}\n" + kHead +
                           "GPTQModifier: {scheme: W4A16, dampening_frac: $damp, block_size: '${size}'}";
  const auto plain = parse(text);
  ASSERT_TRUE(plain.ok()) << plain.error().message();
  EXPECT_EQ(plain->modifiers[0].arguments.number("dampening_frac"), 0.1);
  EXPECT_EQ(plain->modifiers[0].arguments.integer("block_size"), 64);
  const auto changed = parse(text, {.recipe_args = {"damp=0.5"}});
  ASSERT_TRUE(changed.ok());
  EXPECT_EQ(changed->modifiers[0].arguments.number("dampening_frac"), 0.5);
  EXPECT_THAT(error_of(text, {.recipe_args = {"dampp=1"}}), HasSubstr("did you mean damp?"));
  EXPECT_THAT(error_of(text, {.recipe_args = {"damp"}}), HasSubstr("key=value"));
  EXPECT_THAT(error_of(kHead + "GPTQModifier: {block_size: $size}"), HasSubstr("the recipe has no args"));
}

TEST(RecipeTest, OldCombinedAwqBecomesTwoModifiers) {
  const auto recipe =
      parse(kHead + "AWQModifier: {scheme: W4A16_ASYM, ignore: [lm_head], duo_scaling: both}");
  ASSERT_TRUE(recipe.ok()) << recipe.error().message();
  ASSERT_EQ(recipe->modifiers.size(), 2u);
  EXPECT_EQ(recipe->modifiers[0].class_name(), "AWQModifier");
  EXPECT_EQ(recipe->modifiers[0].arguments.text("duo_scaling"), "both");
  EXPECT_EQ(recipe->modifiers[1].class_name(), "QuantizationModifier");
  EXPECT_EQ(recipe->modifiers[1].arguments.text("scheme"), "W4A16_ASYM");
}

TEST(RecipeTest, ModifiersOfOneClassKeepTheirOrderInTheWrittenRecipe) {
  const auto recipe = parse(
      "a_stage:\n  q_modifiers: {SmoothQuantModifier: {}, GPTQModifier: {scheme: W8A8}}\n"
      "b_stage:\n  q_modifiers: {SmoothQuantModifier: {}, QuantizationModifier: {scheme: W8A8}}\n");
  ASSERT_TRUE(recipe.ok()) << recipe.error().message();
  const auto again = parse(*recipe_to_yaml(*recipe));
  ASSERT_TRUE(again.ok());
  std::vector<std::string> order;
  for (const ModifierConfig& modifier : again->modifiers) order.push_back(modifier.class_name());
  EXPECT_THAT(order, ::testing::ElementsAre("SmoothQuantModifier", "GPTQModifier", "SmoothQuantModifier",
                                            "QuantizationModifier"));
}

TEST(RecipeTest, NullArgumentsSurviveWriting) {
  const auto recipe = parse(kHead + "GPTQModifier: {scheme: W4A16, actorder: null, dampening_frac: null}");
  ASSERT_TRUE(recipe.ok()) << recipe.error().message();
  const auto again = parse(*recipe_to_yaml(*recipe));
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(again->modifiers[0].arguments.at("actorder").is_null());
  EXPECT_TRUE(again->modifiers[0].arguments.at("dampening_frac").is_null());
}

TEST(RecipeTest, ARecipeIsAppendedToThatOfTheSource) {
  const auto tree = [](const std::string& text) { return *read_yaml(text); };
  const RecipeValue merged = append_recipe_tree(tree("a_stage: {x: 1}"), tree("a_stage: {x: 2}"));
  EXPECT_EQ(merged, tree("{a_stage_0: {x: 1}, a_stage_1: {x: 2}}"));
  EXPECT_EQ(append_recipe_tree(tree("b_stage: {x: 1}"), tree("a_stage: {x: 2}")),
            tree("{b_stage: {x: 1}, a_stage: {x: 2}}"));
}

TEST(RecipeTest, AMissingFileIsNotTakenForText) {
  const auto recipe = load_recipe("no/such/recipe.yaml");
  ASSERT_FALSE(recipe.ok());
  EXPECT_EQ(recipe.error().code, ErrorCode::kNoInput);
}

TEST(RecipeShortcutTest, SchemeAndMethodStandForARecipe) {
  const auto recipe = recipe_of_shortcut({.scheme = "w4a16", .method = "awq+gptq", .ignore = {"lm_head"}});
  ASSERT_TRUE(recipe.ok()) << recipe.error().message();
  ASSERT_EQ(recipe->modifiers.size(), 2u);
  EXPECT_EQ(recipe->modifiers[0].class_name(), "AWQModifier");
  EXPECT_EQ(recipe->modifiers[1].arguments.text("scheme"), "w4a16");
  EXPECT_THAT(recipe->modifiers[1].arguments.texts("ignore"), ::testing::ElementsAre("lm_head"));
}

TEST(RecipeShortcutTest, GroupSizeReplacesThatOfThePreset) {
  const auto resolve = [](std::int64_t size) {
    const auto recipe = recipe_of_shortcut({.scheme = "W4A16_ASYM", .group_size = size});
    EXPECT_TRUE(recipe.ok());
    return *resolve_quantization(recipe->modifiers[0])->config_groups[0].second.weights;
  };
  EXPECT_EQ(resolve(64).group_size, 64);
  EXPECT_EQ(resolve(64).strategy, Strategy::kGroup);
  EXPECT_FALSE(resolve(64).symmetric);
  EXPECT_EQ(resolve(-1).strategy, Strategy::kChannel);
  EXPECT_FALSE(recipe_of_shortcut({.scheme = "W8A8", .group_size = 64}).ok());
  EXPECT_FALSE(recipe_of_shortcut({.scheme = "W4A16", .group_size = 0}).ok());
}

TEST(RecipeShortcutTest, UnknownWordsAreAnsweredWithTheNearest) {
  const auto method = recipe_of_shortcut({.scheme = "W4A16", .method = "gtpq"});
  EXPECT_THAT(method.error().message(), HasSubstr("did you mean gptq"));
  const auto scheme = recipe_of_shortcut({.scheme = "W4A61"});
  EXPECT_THAT(scheme.error().message(), HasSubstr("did you mean W4A16"));
}

TEST(YamlTest, ScalarsResolveAsInYaml11) {
  EXPECT_EQ(resolve_yaml_scalar("yes"), RecipeValue(true));
  EXPECT_EQ(resolve_yaml_scalar("010"), RecipeValue(8));
  EXPECT_EQ(resolve_yaml_scalar("0x1F"), RecipeValue(31));
  EXPECT_EQ(resolve_yaml_scalar("1_000"), RecipeValue(1000));
  EXPECT_EQ(resolve_yaml_scalar("1.5e+3"), RecipeValue(1500.0));
  EXPECT_EQ(resolve_yaml_scalar("1e3"), RecipeValue("1e3"));
  EXPECT_EQ(resolve_yaml_scalar("~"), RecipeValue());
  EXPECT_EQ(resolve_yaml_scalar("99999999999999999999"), RecipeValue("99999999999999999999"));
}

TEST(YamlTest, TextsThatLookLikeOtherTypesAreQuoted) {
  for (const std::string text : {"true", "12", "2:4", "1.5", "null", "", " a", "a: b", "- a", "#a", "it's",
                                 "a\nb", "2024-01-01", "*a", "a,b", "{", "é"}) {
    const RecipeValue value = RecipeValue::Map{{"key", text}, {"list", RecipeValue::List{text, text}}};
    const auto again = read_yaml(write_yaml(value));
    ASSERT_TRUE(again.ok()) << text;
    EXPECT_EQ(*again, value) << write_yaml(value);
  }
}

TEST(YamlTest, LongFlowListsBreakAtTheWidth) {
  RecipeValue::List list(40, RecipeValue("re:.*some_layer$"));
  const std::string text = write_yaml(RecipeValue::Map{{"stage", RecipeValue::Map{{"targets", list}}}});
  std::size_t begin = 0;
  for (std::size_t end = text.find('\n'); end != std::string::npos;
       begin = end + 1, end = text.find('\n', begin)) {
    EXPECT_LE(end - begin, 88u + 20u);
  }
  EXPECT_EQ(read_yaml(text)->find("stage")->find("targets")->if_list()->size(), 40u);
}

TEST(YamlTest, AliasesCannotBlowUp) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    text += fmt::format("a{0}: &a{0} [*a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}]\n", i, i - 1);
  }
  const auto value = read_yaml(text);
  ASSERT_FALSE(value.ok());
  EXPECT_THAT(value.error().message(), HasSubstr("aliases"));
  EXPECT_FALSE(read_yaml("a: &a [*a]").ok());
  EXPECT_FALSE(read_yaml(std::string(100000, '[')).ok());
}

TEST(YamlTest, RepeatedKeysAndSeveralDocumentsAreErrors) {
  EXPECT_FALSE(read_yaml("a: 1\na: 2\n").ok());
  EXPECT_FALSE(read_yaml("a: 1\n---\nb: 2\n").ok());
}

// yaml-cpp's LoadAll never comes back from these (found by fuzzing).
TEST(Recipe, BytesThatAreNoYamlAreRefused) {
  EXPECT_FALSE(read_yaml(",\x02").ok());
  EXPECT_FALSE(read_yaml("a: 1\n---\nb: 2\n").ok());
}

}  // namespace
}  // namespace nibble
