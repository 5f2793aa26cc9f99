// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "modify/block.h"
#include "modify/magnitude_modifier.h"
#include "modify/sparsegpt_modifier.h"
#include "modify/wanda.h"

namespace nibble {
namespace {

using testing::add_block;
using testing::Block;
using testing::correlated_inputs;
using ::testing::Each;
using ::testing::HasSubstr;
using testing::InputStatistics;
using testing::matrix_of;
using testing::output_error;
using testing::same_bits;
using ::testing::SizeIs;
using testing::UnitBuilder;
using testing::weight_like;
using testing::work_of;

constexpr std::int64_t kRows = 48, kCols = 64;

std::int64_t zeros_of(const Matrix& m) {
  return std::ranges::count(m.values(), 0.0f);
}

void expect_two_of_four(const Matrix& m) {
  for (std::int64_t r = 0; r < m.rows(); ++r) {
    for (std::int64_t c = 0; c < m.cols(); c += 4)
      ASSERT_GE(std::ranges::count(m.row(r).subspan(static_cast<std::size_t>(c), 4), 0.0f), 2)
          << r << " " << c;
  }
}

// One linear under one pruning modifier.
struct PrunerLayer {
  PrunerLayer(const std::string& class_name, RecipeValue body, bool is_strict, const Matrix& weight,
              const Matrix& x, const Matrix* original = nullptr)
      : builder(is_strict), statistics(builder.pool(), x, 8, original) {
    if (!body.find("sparsity") && class_name != "MagnitudePruningModifier") body.set("sparsity", 0.5);
    builder.linear(testing::kDownProj, ModuleRole::kDown, 3, weight.rows(), weight.cols());
    modifier = builder.modifier(class_name, body);
    unit.modules.push_back(work_of(builder.model().modules[0], weight, &statistics.values()));
    const auto result = builder.run(*modifier, unit);
    EXPECT_TRUE(result.ok()) << result.error().message();
    if (result.ok()) report = result->at(0);
  }
  Matrix weight() const { return matrix_of(unit.modules[0].weight); }

  UnitBuilder builder;
  InputStatistics statistics;
  std::unique_ptr<Modifier> modifier;
  UnitWork unit;
  LayerReport report;
};

class PruningModifierTest : public ::testing::TestWithParam<std::string> {};

TEST_P(PruningModifierTest, OwnModeIsBetterAtTheSameSparsity) {
  const Matrix x = correlated_inputs(256, kCols, 0.8, 1);
  const Matrix w = weight_like(kRows, kCols, 2);
  for (const char* structure : {"0:0", "2:4"}) {
    const RecipeValue body = RecipeValue::Map{{"mask_structure", structure}};
    const PrunerLayer strict(GetParam(), body, true, w, x);
    const PrunerLayer own(GetParam(), body, false, w, x);
    EXPECT_EQ(zeros_of(own.weight()), kRows * kCols / 2);
    EXPECT_NEAR(static_cast<double>(zeros_of(strict.weight())), kRows * kCols / 2, 2);
    if (std::string(structure) == "2:4") {
      expect_two_of_four(strict.weight());
      expect_two_of_four(own.weight());
    }
    EXPECT_NEAR(own.report.relative_error, output_error(own.weight(), w, x), 1e-4);
    EXPECT_LT(own.report.relative_error, 0.95 * output_error(strict.weight(), w, x)) << structure;
    EXPECT_THAT(own.report.notes[0], HasSubstr("50.00 % zeros"));
  }
}

TEST_P(PruningModifierTest, ShiftedTargetsHaveExactCountsToo) {
  const Matrix original = correlated_inputs(512, kCols, 0.8, 1);
  Matrix x = original;
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    for (std::int64_t c = 0; c < kCols; ++c) x.at(t, c) += 0.2f * original.at(t, (c + 5) % kCols);
  }
  const PrunerLayer layer(GetParam(),
                          RecipeValue::Map{{"mask_structure", "2:4"}, {"target_correction", true}}, false,
                          weight_like(kRows, kCols, 2), x, &original);
  expect_two_of_four(layer.weight());
  EXPECT_EQ(zeros_of(layer.weight()), kRows * kCols / 2);
  EXPECT_THAT(layer.report.notes, SizeIs(2));
}

TEST_P(PruningModifierTest, UnreachedLinearsArePrunedByMagnitude) {
  UnitBuilder builder;
  builder.linear(testing::kDownProj, ModuleRole::kDown, 3, kRows, kCols);
  const auto modifier =
      builder.modifier(GetParam(), RecipeValue::Map{{"sparsity", 0.5}, {"mask_structure", "2:4"}});
  UnitWork unit;
  unit.modules.push_back(work_of(builder.model().modules[0], weight_like(kRows, kCols, 2), nullptr));
  const auto reports = builder.run(*modifier, unit);
  ASSERT_TRUE(reports.ok()) << reports.error().message();
  expect_two_of_four(matrix_of(unit.modules[0].weight));
  EXPECT_THAT(reports->at(0).notes[1], HasSubstr("no data"));
}

// Linears of a small model with two blocks, and a pruning modifier on it.
struct TwoBlocks {
  explicit TwoBlocks(const RecipeValue& body, const std::string& class_name, bool is_strict = false)
      : builder(is_strict) {
    for (int b = 0; b < 2; ++b) {
      ModuleInfo block;
      block.name = "model.layers." + std::to_string(b);
      block.class_name = "LlamaDecoderLayer";
      block.kind = ModuleKind::kBlock;
      block.block = b;
      builder.add(block);
      add_block(builder, {}, b);
    }
    std::vector<std::string> warnings;
    auto config = make_modifier_config(class_name, "s", "g", body, {.strict = is_strict}, warnings);
    EXPECT_TRUE(config.ok()) << config.error().message();
    modifier = make_modifier(*config).value();
    status = modifier->initialize(builder.state());
  }
  // Shares of zeros by module name, after all units ran.
  std::map<std::string, double> zeros() {
    std::map<std::string, double> shares;
    std::deque<InputStatistics> statistics;
    for (const ModuleInfo& module : builder.model().modules) {
      if (module.kind != ModuleKind::kLinear) continue;
      const Matrix x = correlated_inputs(100, module.cols, 0.5, 7);
      statistics.emplace_back(builder.pool(), x);
      UnitWork unit;
      unit.modules.push_back(
          work_of(module, weight_like(module.rows, module.cols, 3), &statistics.back().values()));
      EXPECT_TRUE(builder.run(*modifier, unit).ok());
      const Matrix w = matrix_of(unit.modules[0].weight);
      shares[module.name] = static_cast<double>(zeros_of(w)) / static_cast<double>(w.rows() * w.cols());
    }
    return shares;
  }

  UnitBuilder builder;
  std::unique_ptr<Modifier> modifier;
  Status status;
};

TEST_P(PruningModifierTest, SparsityMayBeAListOverTargets) {
  RecipeValue body = RecipeValue::Map{{"sparsity", RecipeValue::List{0.25, 0.75}}};
  body.set("targets", RecipeValue::text_list({"LlamaDecoderLayer"}));
  TwoBlocks model(body, GetParam());
  ASSERT_TRUE(model.status.ok()) << model.status.error().message();
  for (const auto& [name, share] : model.zeros())
    EXPECT_NEAR(share, name.find("layers.0") != std::string::npos ? 0.25 : 0.75, 1e-3) << name;
  body.set("sparsity", RecipeValue::List{0.25});
  EXPECT_THAT(TwoBlocks(body, GetParam()).status.error().what, HasSubstr("1 values for 2 targets"));
}

TEST_P(PruningModifierTest, SparsityMayBeAMap) {
  RecipeValue body =
      RecipeValue::Map{{"sparsity", RecipeValue::Map{{"model.layers.0", 0.25}, {"re:.*down_proj$", 0.5}}}};
  TwoBlocks model(body, GetParam());
  ASSERT_TRUE(model.status.ok()) << model.status.error().message();
  const auto zeros = model.zeros();
  EXPECT_NEAR(zeros.at("model.layers.0.self_attn.q_proj"), 0.25, 1e-3);
  EXPECT_NEAR(zeros.at("model.layers.0.mlp.down_proj"), 0.5, 1e-3);
  EXPECT_NEAR(zeros.at("model.layers.1.mlp.down_proj"), 0.5, 1e-3);
  EXPECT_EQ(zeros.at("model.layers.1.self_attn.q_proj"), 0);
  EXPECT_FALSE(TwoBlocks(body, GetParam(), true).status.ok());
  body.set("sparsity", RecipeValue::Map{{"re:.*gone$", 0.25}});
  EXPECT_THAT(TwoBlocks(body, GetParam()).status.error().what, HasSubstr("re:.*gone$"));
}

TEST_P(PruningModifierTest, IgnoreTakesExactNamesAndPatterns) {
  RecipeValue body = RecipeValue::Map{{"sparsity", 0.5}};
  body.set("ignore", RecipeValue::text_list({"model.layers.0.self_attn.q_proj", "re:.*up_proj"}));
  TwoBlocks model(body, GetParam());
  const auto zeros = model.zeros();
  EXPECT_EQ(zeros.at("model.layers.0.self_attn.q_proj"), 0);
  EXPECT_EQ(zeros.at("model.layers.1.mlp.up_proj"), 0);
  EXPECT_NEAR(zeros.at("model.layers.1.self_attn.q_proj"), 0.5, 1e-3);
  EXPECT_THAT(model.builder.state().pruned, SizeIs(14 - 3));
}

// Surveys two blocks, the second with outliers among its weights.
void survey(TwoBlocks& model) {
  for (int b = 0; b < 2; ++b) {
    UnitWork unit;
    std::deque<InputStatistics> statistics;
    for (const ModuleInfo& module : model.builder.model().modules) {
      if (module.block != b || module.kind != ModuleKind::kLinear) continue;
      EXPECT_EQ(model.modifier->survey_needs(model.builder.state(), module), kInputSquareMean);
      Matrix w = testing::random_matrix(module.rows, module.cols, 5);
      if (b == 1) {
        for (std::int64_t i = 0; i < w.rows() * w.cols(); i += 50) w.data()[i] *= 40;
      }
      statistics.emplace_back(model.builder.pool(), correlated_inputs(64, module.cols, 0, 3));
      unit.modules.push_back(work_of(module, w, &statistics.back().values()));
    }
    NullSink events;
    const StopToken stop;
    Context context{model.builder.pool(), events, stop};
    ASSERT_TRUE(model.modifier->on_survey(unit, context).ok());
  }
}

TEST_P(PruningModifierTest, ProfilesSpreadSparsityAroundTheMean) {
  const RecipeValue owl =
      RecipeValue::Map{{"sparsity", 0.5}, {"sparsity_profile", "owl"}, {"owl_m", 5}, {"owl_lmbda", 0.08}};
  const RecipeValue dlp = RecipeValue::Map{{"sparsity", 0.5}, {"dlp_alpha", 0.1}};
  for (const auto& [body, spread] : std::vector<std::pair<RecipeValue, double>>{{owl, 0.08}, {dlp, -0.1}}) {
    TwoBlocks model(body, GetParam());
    ASSERT_TRUE(model.status.ok());
    survey(model);
    const Status started = model.modifier->on_calibration_start(model.builder.state());
    ASSERT_TRUE(started.ok()) << started.error().message();
    // Outliers protect a block under OWL; under DLP they raise the sum over the median, and more is pruned.
    for (const auto& [name, share] : model.zeros())
      EXPECT_NEAR(share, name.find("layers.0") != std::string::npos ? 0.5 + spread : 0.5 - spread, 0.04)
          << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Both, PruningModifierTest,
                         ::testing::Values("SparseGPTModifier", "WandaPruningModifier"),
                         [](const auto& parameter) { return parameter.param; });

TEST(SparseGptModifierTest, PreservedZerosStay) {
  const Matrix x = correlated_inputs(256, kCols, 0.8, 1);
  Matrix w = weight_like(kRows, kCols, 2);
  for (std::int64_t i = 0; i < kRows * kCols; i += 4) w.data()[i] = 0;
  for (const bool is_strict : {false, true}) {
    const PrunerLayer layer("SparseGPTModifier", RecipeValue::Map{{"preserve_sparsity_mask", true}},
                            is_strict, w, x);
    const Matrix found = layer.weight();
    for (std::int64_t i = 0; i < kRows * kCols; i += 4) ASSERT_EQ(found.data()[i], 0) << i;
  }
}

TEST(WandaModifierTest, StrictMaskIsThatOfTheFormula) {
  const Matrix x = correlated_inputs(256, kCols, 0.8, 1);
  const Matrix w = weight_like(kRows, kCols, 2);
  PrunerLayer layer("WandaPruningModifier", RecipeValue::Map{{"mask_structure", "2:4"}}, true, w, x);
  ThreadPool pool(1);
  InputStatistics seen(pool, x);
  const Matrix keep = wanda_mask(pool, w, seen.values().input_square_mean, {.zeros = 2, .group = 4}).value();
  EXPECT_TRUE(same_bits(layer.weight(), masked(w, keep)));
  EXPECT_EQ(layer.modifier->needs(layer.builder.state(), layer.builder.model().modules[0]), kInputSquareMean);
}

TEST(MagnitudeModifierTest, PrunesAtTheFinalSparsity) {
  const RecipeValue body =
      RecipeValue::Map{{"targets", "__ALL_PRUNABLE__"}, {"init_sparsity", 0.1}, {"final_sparsity", 0.75}};
  const Matrix w = weight_like(kRows, kCols, 2);
  const PrunerLayer layer("MagnitudePruningModifier", body, false, w, correlated_inputs(64, kCols, 0, 1));
  EXPECT_EQ(zeros_of(layer.weight()), kRows * kCols * 3 / 4);
  EXPECT_THAT(layer.report.notes[0], HasSubstr("75.00 %"));
  const PrunerLayer by_parameter(
      "MagnitudePruningModifier",
      RecipeValue::Map{
          {"targets", "re:.*down_proj.weight$"}, {"init_sparsity", 0.1}, {"final_sparsity", 0.75}},
      false, w, correlated_inputs(64, kCols, 0, 1));
  EXPECT_TRUE(same_bits(layer.weight(), by_parameter.weight()));
}

TEST(ConstantModifierTest, LaterModifiersKeepTheZeros) {
  for (const bool is_held : {false, true}) {
    UnitBuilder builder;
    const Matrix x = correlated_inputs(256, kCols, 0.8, 1);
    InputStatistics statistics(builder.pool(), x);
    builder.linear(testing::kDownProj, ModuleRole::kDown, 3, kRows, kCols);
    std::vector<std::unique_ptr<Modifier>> modifiers;
    if (is_held)
      modifiers.push_back(
          builder.modifier("ConstantPruningModifier", RecipeValue::Map{{"targets", "Linear"}}));
    modifiers.push_back(builder.modifier("GPTQModifier", RecipeValue::Map{{"scheme", "W8A8"}}));
    Matrix w = weight_like(kRows, kCols, 2);
    for (std::int64_t i = 0; i < kRows * kCols; i += 10) w.data()[i] = 0;  // too few to look pruned
    UnitWork unit;
    unit.modules.push_back(work_of(builder.model().modules[0], w, &statistics.values()));
    for (const auto& modifier : modifiers) ASSERT_TRUE(builder.run(*modifier, unit).ok());
    const Matrix stored = matrix_of(unit.modules[0].compressed->dense(builder.pool()).value());
    std::int64_t kept = 0;
    for (std::int64_t i = 0; i < kRows * kCols; i += 10) kept += stored.data()[i] == 0;
    if (is_held) {
      EXPECT_EQ(kept, (kRows * kCols + 9) / 10);
    } else {
      EXPECT_LT(kept, (kRows * kCols + 9) / 10);
    }
  }
}

TEST(JointModifierTest, PruneThenQuantizeKeepsEveryZero) {
  UnitBuilder builder;
  const Matrix x = correlated_inputs(256, kCols, 0.8, 1);
  InputStatistics statistics(builder.pool(), x);
  builder.linear(testing::kDownProj, ModuleRole::kDown, 3, kRows, kCols);
  const auto prune =
      builder.modifier("SparseGPTModifier", RecipeValue::Map{{"sparsity", 0.5}, {"mask_structure", "2:4"}});
  const auto round = builder.modifier("GPTQModifier", RecipeValue::Map{{"scheme", "W8A8"}});
  UnitWork unit;
  unit.modules.push_back(
      work_of(builder.model().modules[0], weight_like(kRows, kCols, 2), &statistics.values()));
  ASSERT_TRUE(builder.run(*prune, unit).ok());
  const Matrix pruned = matrix_of(unit.modules[0].weight);
  const auto reports = builder.run(*round, unit);
  ASSERT_TRUE(reports.ok());
  EXPECT_THAT(reports->at(0).notes, ::testing::Contains("zeros kept"));
  const Matrix stored = matrix_of(unit.modules[0].compressed->dense(builder.pool()).value());
  for (std::int64_t i = 0; i < kRows * kCols; ++i) {
    ASSERT_TRUE(pruned.data()[i] != 0 || stored.data()[i] == 0) << i;
  }
}

}  // namespace
}  // namespace nibble
