// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/module_match.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

namespace nibble {
namespace {

using ::testing::HasSubstr;

constexpr std::array<std::string_view, 2> kLinear{"QKVLinear", "Linear"};

std::string winner(const std::vector<std::string>& texts, std::string_view module) {
  const auto targets = ModuleTargets::parse(texts);
  if (!targets.ok()) return targets.error().message();
  const auto won = targets->winner(module, kLinear);
  return won ? texts[*won] + "#" + std::to_string(*won) : "none";
}

TEST(ModuleTargetsTest, NamesBeatExpressionsBeatClasses) {
  EXPECT_EQ(winner({"Linear", "re:.*q_proj", "a.q_proj"}, "a.q_proj"), "a.q_proj#2");
  EXPECT_EQ(winner({"Linear", "re:.*q_proj"}, "a.q_proj"), "re:.*q_proj#1");
  EXPECT_EQ(winner({"Linear", "QKVLinear"}, "a.k_proj"), "Linear#0");
  EXPECT_EQ(winner({"Conv1D"}, "a.q_proj"), "none");
  EXPECT_EQ(winner({"re:b", "re:a", "re:.*c"}, "abc"), "re:.*c#2") << "expressions in alphabetical order";
  EXPECT_EQ(winner({"re:a", "re:a"}, "abc"), "re:a#1") << "the last of equal targets";
}

TEST(ModuleTargetsTest, ExpressionsAreAnchoredAtTheStartOnly) {
  EXPECT_EQ(winner({"re:.*gate"}, "mlp.gate_proj"), "re:.*gate#0");
  EXPECT_EQ(winner({"re:gate"}, "mlp.gate_proj"), "none");
  EXPECT_EQ(winner({"re:.*(?<!shared_)gate$"}, "mlp.gate"), "re:.*(?<!shared_)gate$#0");
}

TEST(ModuleTargetsTest, LinearBaseIsALinear) {
  EXPECT_EQ(winner({"LinearBase"}, "x"), "LinearBase#0");
}

TEST(ModuleTargetsTest, ABadExpressionIsAnErrorThatShowsIt) {
  EXPECT_THAT(winner({"re:(a"}, "x"), HasSubstr("invalid regular expression \"(a\""));
}

}  // namespace
}  // namespace nibble
