// SPDX-License-Identifier: Apache-2.0
#include "modify/gptq_modifier.h"

#include <gtest/gtest.h>

#include "modify/golden.h"
#include "modify/unit.h"

namespace nibble {
namespace {

using testing::correlated_inputs;
using testing::Golden;
using testing::InputStatistics;
using testing::matrix_of;
using testing::output_error;
using testing::UnitBuilder;
using testing::weight_like;
using testing::work_of;

RecipeValue group_scheme(std::int64_t bits, std::int64_t group, bool symmetric = true) {
  const RecipeValue weights = RecipeValue::Map{{"num_bits", bits},
                                               {"type", "int"},
                                               {"symmetric", symmetric},
                                               {"strategy", "group"},
                                               {"group_size", group}};
  return RecipeValue::Map{
      {"config_groups",
       RecipeValue::Map{{"group_0", RecipeValue::Map{{"targets", RecipeValue::text_list({"Linear"})},
                                                     {"weights", weights}}}}}};
}

RecipeValue with(RecipeValue map, const char* key, RecipeValue value) {
  map.set(key, std::move(value));
  return map;
}

struct ModifierLayer {
  ModifierLayer(const RecipeValue& body, bool is_strict, const Matrix& weight, const Matrix& x,
                const Matrix* original = nullptr, const std::vector<float>& bias = {})
      : builder(is_strict), statistics(builder.pool(), x, 8, original) {
    const ModuleInfo& module =
        builder.linear(testing::kDownProj, ModuleRole::kDown, 3, weight.rows(), weight.cols(), !bias.empty());
    modifier = builder.modifier("GPTQModifier", body);
    unit.modules.push_back(work_of(module, weight, &statistics.values()));
    if (!bias.empty()) unit.modules[0].bias = Tensor::from_f32(DType::kF32, {weight.rows()}, bias);
    auto result = builder.run(*modifier, unit);
    EXPECT_TRUE(result.ok()) << result.error().message();
    if (result.ok()) report = result->at(0);
  }
  Matrix weight() const { return matrix_of(unit.modules[0].weight); }
  Matrix dense() { return matrix_of(unit.modules[0].compressed->dense(builder.pool()).value()); }

  UnitBuilder builder;
  InputStatistics statistics;
  std::unique_ptr<Modifier> modifier;
  UnitWork unit;
  LayerReport report;
};

TEST(GptqModifierTest, WhatIsStoredIsWhatPropagates) {
  const Matrix x = correlated_inputs(256, 64, 0.8, 1);
  const Matrix w = weight_like(48, 64, 2);
  for (const bool is_strict : {false, true}) {
    for (const bool symmetric : {false, true}) {
      ModifierLayer layer(group_scheme(4, 32, symmetric), is_strict, w, x);
      EXPECT_TRUE(testing::same_bits(layer.weight(), layer.dense())) << is_strict << symmetric;
    }
  }
}

TEST(GptqModifierTest, ReportsTheOutputErrorBesideThatOfRounding) {
  const Matrix x = correlated_inputs(256, 64, 0.8, 1);
  const Matrix w = weight_like(48, 64, 2);
  double errors[2];
  for (const bool is_strict : {false, true}) {
    const ModifierLayer layer(group_scheme(4, 32), is_strict, w, x);
    const LayerReport& report = layer.report;
    EXPECT_TRUE(report.of_outputs);
    EXPECT_NEAR(report.relative_error, output_error(layer.weight(), w, x), 1e-4);
    EXPECT_LT(report.relative_error, *report.rtn_relative_error);
    EXPECT_TRUE(report.notes.empty());
    errors[is_strict ? 1 : 0] = report.relative_error;
  }
  EXPECT_LT(errors[0], errors[1]);
}

TEST(GptqModifierTest, EveryPartCanBeSwitchedOff) {
  const Matrix x = correlated_inputs(256, 64, 0.8, 1);
  const Matrix w = weight_like(48, 64, 2);
  const double all = ModifierLayer(group_scheme(3, 32), false, w, x).report.relative_error;
  for (const auto& [name, value] : std::vector<std::pair<const char*, RecipeValue>>{
           {"scale_search", false}, {"column_order", "natural"}, {"refine_rounds", 0}}) {
    const double without =
        ModifierLayer(with(group_scheme(3, 32), name, value), false, w, x).report.relative_error;
    EXPECT_NE(without, all) << name;
    if (std::string(name) != "column_order") {
      EXPECT_GT(without, all) << name;
    }
  }
}

TEST(GptqModifierTest, OwnArgumentsAreRefusedUnderStrictRules) {
  std::vector<std::string> warnings;
  const auto config = make_modifier_config("GPTQModifier", "s", "g", with(group_scheme(4, 32), "magr", 0.001),
                                           {.strict = true}, warnings);
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.error().code, ErrorCode::kUsage);
}

TEST(GptqModifierTest, TargetCorrectionBringsOutputsNearerToTheOriginal) {
  const Matrix original = correlated_inputs(512, 64, 0.8, 1);
  Matrix x = original;
  // Deviations that depend on the inputs, as those of a partly compressed model do.
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    for (std::int64_t c = 0; c < x.cols(); ++c) x.at(t, c) += 0.2f * original.at(t, (c + 5) % x.cols());
  }
  const Matrix w = weight_like(48, 64, 2);
  const auto distance = [&](const Matrix& q) {
    double sum = 0;
    for (std::int64_t t = 0; t < x.rows(); ++t) {
      for (std::int64_t r = 0; r < w.rows(); ++r) {
        double y = 0;
        for (std::int64_t c = 0; c < x.cols(); ++c) {
          y += static_cast<double>(q.at(r, c)) * static_cast<double>(x.at(t, c)) -
               static_cast<double>(w.at(r, c)) * static_cast<double>(original.at(t, c));
        }
        sum += y * y;
      }
    }
    return sum;
  };
  const ModifierLayer with_shift(group_scheme(4, 32), false, w, x, &original);
  const ModifierLayer without(with(group_scheme(4, 32), "target_correction", false), false, w, x, &original);
  EXPECT_LT(distance(with_shift.weight()), 0.5 * distance(without.weight()));
  ASSERT_FALSE(with_shift.report.notes.empty());
  EXPECT_TRUE(without.report.notes.empty());
  EXPECT_LT(with_shift.report.relative_error, *with_shift.report.rtn_relative_error);
}

TEST(GptqModifierTest, BiasKeepsTheMeanOutput) {
  const Matrix x = correlated_inputs(512, 64, 0.8, 1, 1.5);
  const Matrix w = weight_like(48, 64, 2);
  const std::vector<float> bias(48, 0.25f);
  const ModifierLayer layer(group_scheme(3, 32), false, w, x, nullptr, bias);
  const ModifierLayer plain(with(group_scheme(3, 32), "bias_correction", false), false, w, x, nullptr, bias);
  const Matrix q = layer.weight();
  const std::vector<float> found = layer.unit.modules[0].bias->to_f32();
  for (std::int64_t r = 0; r < w.rows(); ++r) {
    double difference = static_cast<double>(found[static_cast<std::size_t>(r)]) - 0.25;
    for (std::int64_t t = 0; t < x.rows(); ++t) {
      for (std::int64_t c = 0; c < x.cols(); ++c) {
        difference += static_cast<double>(x.at(t, c)) * static_cast<double>(q.at(r, c) - w.at(r, c)) /
                      static_cast<double>(x.rows());
      }
    }
    EXPECT_NEAR(difference, 0, 1e-4);
  }
  EXPECT_LT(layer.report.relative_error, plain.report.relative_error);
  EXPECT_LT(layer.report.relative_error, *layer.report.rtn_relative_error);
  EXPECT_EQ(plain.unit.modules[0].bias->to_f32(), bias);
}

TEST(GptqModifierTest, ZerosOfPrunedWeightsStay) {
  const Matrix x = correlated_inputs(256, 64, 0.8, 1);
  Matrix w = weight_like(48, 64, 2);
  for (std::int64_t i = 0; i < w.rows() * w.cols(); i += 2) w.data()[i] = 0;
  for (const bool symmetric : {false, true}) {
    ModifierLayer layer(group_scheme(4, 32, symmetric), false, w, x);
    const Matrix stored = layer.dense();
    for (std::int64_t i = 0; i < w.rows() * w.cols(); i += 2) ASSERT_EQ(stored.data()[i], 0) << i;
  }
  const ModifierLayer free(with(group_scheme(4, 32), "preserve_sparsity_mask", false), false, w, x);
  EXPECT_NE(std::ranges::count(free.weight().values(), 0.0f),
            std::ranges::count(ModifierLayer(group_scheme(4, 32), false, w, x).weight().values(), 0.0f));
}

TEST(GptqModifierTest, RaisedDampingIsNoted) {
  // Of rank 8: 56 pivots are what rounding leaves of zero, and no level's sums leave all of them positive.
  const Matrix x = correlated_inputs(8, 64, 0.8, 1);
  const ModifierLayer layer(with(group_scheme(4, 32), "dampening_frac", 0.0), false, weight_like(8, 64, 2),
                            x);
  ASSERT_EQ(layer.report.notes.size(), 1u);
  EXPECT_NE(layer.report.notes[0].find("damping raised"), std::string::npos);
}

TEST(GptqModifierTest, EmbeddingsAndUnreachedLinearsAreRoundedToNearest) {
  UnitBuilder builder;
  ModuleInfo embedding;
  embedding.name = "model.embed_tokens";
  embedding.class_name = "Embedding";
  embedding.kind = ModuleKind::kEmbedding;
  embedding.rows = 16;
  embedding.cols = 128;
  embedding.weight = "model.embed_tokens.weight";
  builder.add(embedding);
  builder.linear("model.layers.0.mlp.experts.1.down_proj", ModuleRole::kExpertDown, 3, 16, 128);
  RecipeValue body = RecipeValue::Map{{"scheme", "W4A16"}};
  body.set("targets", RecipeValue::text_list({"Linear", "Embedding"}));
  const auto modifier = builder.modifier("GPTQModifier", body);
  EXPECT_EQ(modifier->needs(builder.state(), builder.model().modules[0]), kNoStatistic);
  EXPECT_NE(modifier->needs(builder.state(), builder.model().modules[1]) & kHessian, 0u);
  UnitWork unit;
  const Matrix w = weight_like(16, 128, 2);
  for (const ModuleInfo& module : builder.model().modules)
    unit.modules.push_back(work_of(module, w, nullptr));
  const auto reports = builder.run(*modifier, unit);
  ASSERT_TRUE(reports.ok()) << reports.error().message();
  ASSERT_EQ(reports->size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(unit.modules[i].compressed.has_value());
    EXPECT_EQ(reports->at(i).notes.size(), 1u);
  }
}

TEST(GptqModifierTest, SiblingsShareAGlobalScale) {
  UnitBuilder builder;
  const Matrix x = correlated_inputs(256, 64, 0.8, 1);
  InputStatistics statistics(builder.pool(), x);
  builder.linear("model.layers.0.self_attn.q_proj", ModuleRole::kQuery, 0, 32, 64);
  builder.linear("model.layers.0.self_attn.k_proj", ModuleRole::kKey, 0, 32, 64);
  const auto modifier = builder.modifier("GPTQModifier", RecipeValue::Map{{"scheme", "NVFP4A16"}});
  UnitWork unit;
  for (int i = 0; i < 2; ++i) {
    Matrix w = weight_like(32, 64, 2 + static_cast<std::uint64_t>(i));
    w.at(0, 0) = i == 0 ? 1.0f : 0.1f;
    unit.modules.push_back(
        work_of(builder.model().modules[static_cast<std::size_t>(i)], w, &statistics.values()));
  }
  ASSERT_TRUE(builder.run(*modifier, unit).ok());
  EXPECT_EQ(unit.modules[0].compressed->params()->global_scale,
            unit.modules[1].compressed->params()->global_scale);
}

}  // namespace
}  // namespace nibble
