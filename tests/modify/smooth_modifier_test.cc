// SPDX-License-Identifier: Apache-2.0
// Mappings from roles and patterns, and that folding leaves the model's function as it is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "modify/block.h"
#include "modify/smooth_mapping.h"
#include "modify/smoothquant_modifier.h"

namespace nibble {
namespace {

using testing::add_block;
using testing::behind_norm;
using testing::Block;
using ::testing::ElementsAre;
using testing::expect_near;
using ::testing::HasSubstr;
using testing::kHidden;
using ::testing::SizeIs;
using testing::UnitBuilder;
using ::testing::UnorderedElementsAre;
using enum ModuleRole;

// "smooth<balance,balance"
std::vector<std::string> described(const ModelDescription& model, const SmoothMappings& mappings) {
  std::vector<std::string> texts;
  const auto leaf = [&](std::size_t m) {
    const std::string& name = model.modules[m].name;
    return name.substr(name.find("layers.") + 7);
  };
  for (const SmoothMapping& mapping : mappings.mappings) {
    std::string text = leaf(mapping.smooth) + "<";
    for (const std::size_t m : mapping.balance) text += leaf(m).substr(leaf(m).rfind('.') + 1) + ",";
    texts.push_back(text);
  }
  return texts;
}

TEST(SmoothMappingTest, RolesGiveThePairsThatKeepTheFunction) {
  UnitBuilder builder;
  add_block(builder, {});
  EXPECT_THAT(described(builder.model(), role_mappings(builder.model(), MappingFamily::kNorms, false)),
              ElementsAre("0.input_layernorm<q_proj,k_proj,v_proj,",
                          "0.post_attention_layernorm<gate_proj,up_proj,"));
  EXPECT_THAT(
      described(builder.model(), role_mappings(builder.model(), MappingFamily::kNormsAndLinears, false)),
      ElementsAre("0.input_layernorm<q_proj,k_proj,v_proj,", "0.self_attn.v_proj<o_proj,",
                  "0.post_attention_layernorm<gate_proj,up_proj,", "0.mlp.up_proj<down_proj,"));
}

TEST(SmoothMappingTest, GroupedQueriesLeaveThePairOutAndSaySo) {
  UnitBuilder builder;
  add_block(builder, {.kv_rows = 16});
  builder.model().head_dim = 8;
  const SmoothMappings strict = role_mappings(builder.model(), MappingFamily::kNormsAndLinears, true);
  EXPECT_THAT(strict.mappings, SizeIs(3));
  EXPECT_THAT(strict.notes, ElementsAre(HasSubstr("1 pairs")));
}

TEST(SmoothMappingTest, GroupedQueriesShareTheirScales) {
  UnitBuilder builder;
  add_block(builder, {.kv_rows = 16});
  builder.model().head_dim = 8;
  const SmoothMappings own = role_mappings(builder.model(), MappingFamily::kNormsAndLinears, false);
  ASSERT_THAT(own.mappings, SizeIs(4));
  EXPECT_TRUE(own.notes.empty());
  const SmoothMapping& mapping = own.mappings[1];
  EXPECT_EQ(mapping.heads_per_group, 2);
  std::vector<float> columns(kHidden);
  for (std::size_t c = 0; c < columns.size(); ++c) columns[c] = static_cast<float>(c);
  const std::vector<float> mean = mean_over_groups(mapping, columns);
  EXPECT_EQ(mean[0], 4);  // columns 0 and 8 read output 0
  EXPECT_EQ(mean[8], 4);
  EXPECT_EQ(mean[17], 21);  // columns 17 and 25 read output 9
}

TEST(SmoothMappingTest, ActivationsThatBendKeepUpAndDownApart) {
  UnitBuilder builder;
  add_block(builder, {});
  builder.model().up_passes_factors = false;
  EXPECT_THAT(role_mappings(builder.model(), MappingFamily::kNormsAndLinears, false).mappings, SizeIs(3));
}

TEST(SmoothMappingTest, ParallelBlocksHaveOneNorm) {
  UnitBuilder builder;
  add_block(builder, {.is_parallel = true});
  EXPECT_THAT(described(builder.model(), role_mappings(builder.model(), MappingFamily::kNorms, false)),
              ElementsAre("0.input_layernorm<q_proj,k_proj,v_proj,gate_proj,up_proj,"));
}

TEST(SmoothMappingTest, RoutersTakePartExceptWhereTheReferenceForgetsThem) {
  UnitBuilder builder;
  add_block(builder, {.experts = 2});
  const ModelDescription& model = builder.model();
  const auto own = described(model, role_mappings(model, MappingFamily::kNormsAndLinears, false));
  ASSERT_THAT(own, SizeIs(5));
  EXPECT_EQ(own[2], "0.post_attention_layernorm<gate,gate_proj,up_proj,gate_proj,up_proj,");
  const SmoothMappings strict = role_mappings(model, MappingFamily::kNormsAndLinears, true);
  EXPECT_EQ(described(model, strict)[2], "0.post_attention_layernorm<gate_proj,up_proj,gate_proj,up_proj,");
  EXPECT_THAT(strict.notes, ElementsAre(HasSubstr("routing changes")));
  EXPECT_THAT(role_mappings(model, MappingFamily::kNorms, true).mappings, SizeIs(1));
  EXPECT_THAT(role_mappings(model, MappingFamily::kNorms, false).mappings, SizeIs(2));
}

TEST(SmoothMappingTest, PatternsAreSetsByBlock) {
  UnitBuilder builder;
  for (int b = 0; b < 3; ++b) add_block(builder, {}, b);
  const std::vector<MappingPatterns> patterns{
      {"re:.*input_layernorm$", {"re:.*q_proj$", "re:.*k_proj$", "re:.*v_proj$"}},
      {"re:.*up_proj$", {"re:.*down_proj$"}}};
  const auto found = pattern_mappings(builder.model(), patterns);
  ASSERT_TRUE(found.ok()) << found.error().message();
  EXPECT_THAT(described(builder.model(), *found),
              UnorderedElementsAre("0.input_layernorm<q_proj,k_proj,v_proj,",
                                   "1.input_layernorm<q_proj,k_proj,v_proj,",
                                   "2.input_layernorm<q_proj,k_proj,v_proj,", "0.mlp.up_proj<down_proj,",
                                   "1.mlp.up_proj<down_proj,", "2.mlp.up_proj<down_proj,"));
  EXPECT_TRUE(found->notes.empty());
}

TEST(SmoothMappingTest, PatternsOfExpertsFormOneSet) {
  UnitBuilder builder;
  for (int b = 0; b < 2; ++b) add_block(builder, {.experts = 2}, b);
  const std::vector<MappingPatterns> norm{
      {"re:.*post_attention_layernorm$", {"re:.*mlp.gate$", "re:.*gate_proj$", "re:.*up_proj$"}}};
  const auto sets = pattern_mappings(builder.model(), norm);
  ASSERT_TRUE(sets.ok()) << sets.error().message();
  ASSERT_THAT(sets->mappings, SizeIs(2));
  EXPECT_THAT(sets->mappings[0].balance, SizeIs(5));
  const std::vector<MappingPatterns> pairs{{"re:.*up_proj$", {"re:.*down_proj$"}}};
  EXPECT_THAT(pattern_mappings(builder.model(), pairs)->mappings, SizeIs(4));
}

TEST(SmoothMappingTest, PatternsThatChangeTheModelAreNamed) {
  UnitBuilder builder;
  add_block(builder, {});
  const std::vector<MappingPatterns> partial{{"re:.*input_layernorm$", {"re:.*q_proj$"}}};
  EXPECT_THAT(pattern_mappings(builder.model(), partial)->notes, ElementsAre(HasSubstr("changes the model")));
  add_block(builder, {}, 1);
  EXPECT_THAT(pattern_mappings(builder.model(), partial)->notes,
              ElementsAre(HasSubstr("(and 1 more) changes")));
  const std::vector<MappingPatterns> nothing{{"re:.*layer_norm$", {"re:.*q_proj$"}}};
  EXPECT_FALSE(pattern_mappings(builder.model(), nothing).ok());
  const std::vector<MappingPatterns> doubled{{"re:.*input_layernorm$", {"re:.*q_proj$", "re:.*proj$"}}};
  EXPECT_THAT(pattern_mappings(builder.model(), doubled).error().what, HasSubstr("two patterns"));
}

TEST(SmoothQuantModifierTest, FoldingKeepsTheFunction) {
  for (const float offset : {0.0f, 1.0f}) {
    for (const char* class_name : {"SmoothQuantModifier", "LogarithmicEqualizationModifier"}) {
      UnitBuilder builder;
      add_block(builder, {.norm_offset = offset, .has_bias = true});
      const auto modifier = builder.modifier(
          class_name, RecipeValue::Map{{"smoothing_strength", 0.7}, {"scale_search", false}});
      Block before(builder), after(builder);
      const auto reports = builder.run(*modifier, after.unit);
      ASSERT_TRUE(reports.ok()) << reports.error().message();
      EXPECT_THAT(*reports, SizeIs(2));
      EXPECT_FALSE(testing::same_bits(before.weight("q_proj"), after.weight("q_proj")));
      for (const auto& [norm, linear] :
           std::vector<std::pair<std::string, std::string>>{{"input_layernorm", "q_proj"},
                                                            {"input_layernorm", "v_proj"},
                                                            {"post_attention_layernorm", "up_proj"}}) {
        expect_near(behind_norm(after.weight(linear), after.weight(norm), offset),
                    behind_norm(before.weight(linear), before.weight(norm), offset), 1e-6);
        const std::vector<float> old_bias = before.bias(norm), new_bias = after.bias(norm);
        const Matrix old_weight = before.weight(linear), new_weight = after.weight(linear);
        for (std::int64_t r = 0; r < old_weight.rows(); ++r) {
          double was = 0, is = 0;
          for (std::size_t c = 0; c < old_bias.size(); ++c) {
            const auto at = static_cast<std::int64_t>(c);
            was += static_cast<double>(old_weight.at(r, at)) * static_cast<double>(old_bias[c]);
            is += static_cast<double>(new_weight.at(r, at)) * static_cast<double>(new_bias[c]);
          }
          EXPECT_NEAR(was, is, 1e-5);
        }
      }
    }
  }
}

TEST(SmoothQuantModifierTest, TheFormulaNeedsRangesOfTheNormsOnly) {
  UnitBuilder builder;
  add_block(builder, {});
  const auto modifier = builder.modifier("SmoothQuantModifier", RecipeValue::Map{{"scale_search", false}});
  for (const ModuleInfo& module : builder.model().modules) {
    EXPECT_EQ(modifier->needs(builder.state(), module),
              module.kind == ModuleKind::kNorm ? kOutputColumnRange : kNoStatistic)
        << module.name;
  }
  EXPECT_EQ(modifier->grain(builder.state()), Grain::kBlock);
}

TEST(SmoothQuantModifierTest, TheSearchSamplesTheInputsOfWhatReads) {
  for (const bool is_strict : {false, true}) {
    UnitBuilder builder(is_strict);
    add_block(builder, {});
    const auto modifier = builder.modifier("SmoothQuantModifier", {});
    for (const ModuleInfo& module : builder.model().modules) {
      const bool reads = module.kind == ModuleKind::kLinear;
      EXPECT_EQ((modifier->needs(builder.state(), module) & kInputSample) != 0, reads && !is_strict)
          << module.name;
    }
  }
}

TEST(SmoothQuantModifierTest, IgnoreCountsWhenItCoversTheWholeMapping) {
  UnitBuilder builder;
  add_block(builder, {});
  RecipeValue body = RecipeValue::Map{};
  body.set("ignore", RecipeValue::text_list({"re:.*self_attn.*", "re:.*input_layernorm"}));
  body.set("scale_search", false);
  const auto modifier = builder.modifier("SmoothQuantModifier", body);
  Block block(builder), before(builder);
  ASSERT_THAT(builder.run(*modifier, block.unit).value(), SizeIs(1));
  EXPECT_TRUE(testing::same_bits(block.weight("q_proj"), before.weight("q_proj")));
}

TEST(SmoothQuantModifierTest, PartsOfAMappingAreRefused) {
  UnitBuilder builder;
  add_block(builder, {});
  const auto modifier = builder.modifier("SmoothQuantModifier", {});
  Block block(builder);
  block.unit.modules.erase(block.unit.modules.begin());  // the norm
  const auto result = builder.run(*modifier, block.unit);
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(result.error().hint, HasSubstr("whole decoder layers"));
}

}  // namespace
}  // namespace nibble
