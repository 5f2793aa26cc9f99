// SPDX-License-Identifier: Apache-2.0
// nibble recipes, through the program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/run_program.h"
#include "base/json.h"

namespace nibble::app_test {
namespace {

using testing::HasSubstr;

constexpr const char* kRecipe = R"(quant_stage:
  args: {bits: 4}
  quant_modifiers:
    GPTQModifier:
      ignore: [lm_head]
      scheme: W4A16
note: nothing reads this
)";

TEST(RecipesVerb, ListsSchemesMethodsAndModifiers) {
  const Json list = json_of({"recipes", "--json"});
  EXPECT_GE(list["schemes"].size(), 30u);
  EXPECT_EQ(list["methods"][0]["name"], "rtn");
  EXPECT_THAT(list["modifiers"].dump(), HasSubstr("GPTQModifier"));
  EXPECT_THAT(run_nibble({"recipes", "list"}).out, HasSubstr("W4A16_ASYM"));
}

TEST(RecipesVerb, ShowsEverythingItLists) {
  const Json list = json_of({"recipes", "list", "--json"});
  for (const auto& [part, kind] :
       {std::pair("schemes", "scheme"), {"methods", "method"}, {"modifiers", "modifier"}}) {
    const Json shown = json_of({"recipes", "show", list[part].back()["name"].get<std::string>(), "--json"});
    EXPECT_EQ(shown["kind"], kind);
  }
  EXPECT_THAT(run_nibble({"recipes", "show", "SparseGPTModifier"}).out, HasSubstr("dampening_frac"));
}

TEST(RecipesVerb, ARecipeThatIsShownPassesTheCheck) {
  const Scratch scratch;
  write_file(scratch / "awq.yaml", run_nibble({"recipes", "show", "awq"}).out);
  const Json checked = json_of({"recipes", "check", scratch / "awq.yaml", "--json"});
  EXPECT_THAT(checked["warnings"], testing::IsEmpty());
}

TEST(RecipesVerb, CheckTellsWhatARecipeMeansAndWarnsOnStderr) {
  const Scratch scratch;
  write_file(scratch / "recipe.yaml", kRecipe);
  const Outcome outcome = run_nibble({"recipes", "check", scratch / "recipe.yaml"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.out, HasSubstr("GPTQModifier (needs calibration data)"));
  EXPECT_THAT(outcome.out, HasSubstr("int4 group 128 on Linear"));
  EXPECT_THAT(outcome.err, HasSubstr("warning:"));
  EXPECT_EQ(run_nibble({"recipes", "check", scratch / "recipe.yaml", "--quiet"}).err, "");
}

TEST(RecipesVerb, MistakesNameTheNearestWord) {
  const Scratch scratch;
  write_file(scratch / "recipe.yaml", "a_stage:\n  b_modifiers:\n    GTPQModifier: {}\n");
  const Outcome modifier = run_nibble({"recipes", "check", scratch / "recipe.yaml"});
  EXPECT_NE(modifier.code, 0);
  EXPECT_THAT(modifier.err, HasSubstr("GPTQModifier"));
  EXPECT_THAT(modifier.err, HasSubstr("recipe.yaml"));
  EXPECT_THAT(run_nibble({"recipes", "shwo", "W4A16"}).err, HasSubstr("did you mean show"));
  EXPECT_THAT(run_nibble({"recipes", "show", "W4A61"}).err, HasSubstr("W4A16"));
  EXPECT_EQ(run_nibble({"recipes", "check"}).code, 2);
  EXPECT_EQ(run_nibble({"recipes", "check", scratch / "absent.yaml"}).code, 66);
}

}  // namespace
}  // namespace nibble::app_test
