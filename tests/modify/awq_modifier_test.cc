// SPDX-License-Identifier: Apache-2.0
#include "modify/awq_modifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "modify/block.h"
#include "modify/quantization.h"

namespace nibble {
namespace {

using testing::add_block;
using testing::behind_norm;
using testing::Block;
using testing::correlated_inputs;
using testing::expect_near;
using ::testing::HasSubstr;
using testing::InputStatistics;
using testing::matrix_of;
using ::testing::SizeIs;
using testing::UnitBuilder;

constexpr const char* kSchemed = "QuantizationModifier";

RecipeValue w4_groups() {
  const RecipeValue weights = RecipeValue::Map{
      {"num_bits", 4}, {"type", "int"}, {"symmetric", true}, {"strategy", "group"}, {"group_size", 16}};
  const RecipeValue group =
      RecipeValue::Map{{"targets", RecipeValue::text_list({"Linear"})}, {"weights", weights}};
  RecipeValue body = RecipeValue::Map{{"config_groups", RecipeValue::Map{{"group_0", group}}}};
  body.set("ignore", RecipeValue::text_list({"re:.*mlp.gate$"}));
  return body;
}

// A block whose linears saw loud and quiet channels.
struct Calibrated {
  explicit Calibrated(UnitBuilder& builder) : block(builder) {
    std::map<std::int64_t, std::uint64_t> seeds;
    for (ModuleWork& work : block.unit.modules) {
      if (work.module->kind != ModuleKind::kLinear) continue;
      const auto stage = static_cast<std::uint64_t>(work.module->stage);
      inputs.push_back(correlated_inputs(200, work.module->cols, 0.5, 10 + stage));
      statistics.emplace_back(builder.pool(), inputs.back());
      work.statistics = &statistics.back().values();
    }
  }
  std::deque<Matrix> inputs;
  std::deque<InputStatistics> statistics;
  Block block;
};

// Column k of down times row k of up: what passes through one channel.
Matrix through(const Matrix& down, const Matrix& up) {
  Matrix result(down.cols(), down.rows() * up.cols());
  for (std::int64_t k = 0; k < down.cols(); ++k) {
    for (std::int64_t r = 0; r < down.rows(); ++r) {
      for (std::int64_t c = 0; c < up.cols(); ++c)
        result.at(k, r * up.cols() + c) = down.at(r, k) * up.at(k, c);
    }
  }
  return result;
}

TEST(AwqModifierTest, FoldingKeepsTheFunction) {
  UnitBuilder builder;
  add_block(builder, {.norm_offset = 1, .has_bias = true});
  const auto awq = builder.modifier("AWQModifier", {});
  builder.modifier(kSchemed, w4_groups());
  ASSERT_TRUE(awq->on_calibration_start(builder.state()).ok());
  Block before(builder);
  Calibrated after(builder);
  const auto reports = builder.run(*awq, after.block.unit);
  ASSERT_TRUE(reports.ok()) << reports.error().message();
  EXPECT_THAT(*reports, SizeIs(4));
  for (const char* linear : {"q_proj", "k_proj"}) {
    expect_near(behind_norm(after.block.weight(linear), after.block.weight("input_layernorm"), 1),
                behind_norm(before.weight(linear), before.weight("input_layernorm"), 1), 1e-6);
  }
  // v is behind the norm and before the output: both folds meet in it.
  const Matrix value = behind_norm(after.block.weight("v_proj"), after.block.weight("input_layernorm"), 1);
  const Matrix old_value = behind_norm(before.weight("v_proj"), before.weight("input_layernorm"), 1);
  expect_near(through(after.block.weight("o_proj"), value), through(before.weight("o_proj"), old_value),
              1e-6);
  const Matrix up =
      behind_norm(after.block.weight("up_proj"), after.block.weight("post_attention_layernorm"), 1);
  const Matrix old_up = behind_norm(before.weight("up_proj"), before.weight("post_attention_layernorm"), 1);
  expect_near(through(after.block.weight("down_proj"), up), through(before.weight("down_proj"), old_up),
              1e-6);
}

TEST(AwqModifierTest, GroupedQueriesAreScaledExactly) {
  UnitBuilder builder;
  add_block(builder, {.kv_rows = 16, .has_bias = true});
  builder.model().head_dim = 8;
  const auto awq = builder.modifier("AWQModifier", {});
  builder.modifier(kSchemed, w4_groups());
  ASSERT_TRUE(awq->on_calibration_start(builder.state()).ok());
  Block before(builder);
  Calibrated after(builder);
  ASSERT_TRUE(builder.run(*awq, after.block.unit).ok());
  // Query heads 0 and 1 read the first head of values, 2 and 3 the second.
  const auto spread = [](const Matrix& values) {
    Matrix result(32, values.cols());
    for (std::int64_t c = 0; c < 32; ++c)
      std::ranges::copy(values.row(c / 16 * 8 + c % 8), result.row(c).begin());
    return result;
  };
  const Matrix value = behind_norm(after.block.weight("v_proj"), after.block.weight("input_layernorm"), 0);
  const Matrix old_value = behind_norm(before.weight("v_proj"), before.weight("input_layernorm"), 0);
  expect_near(through(after.block.weight("o_proj"), spread(value)),
              through(before.weight("o_proj"), spread(old_value)), 1e-6);
  EXPECT_FALSE(testing::same_bits(after.block.weight("o_proj"), before.weight("o_proj")));
}

TEST(AwqModifierTest, SearchIsNeverWorseThanNoScaling) {
  UnitBuilder builder;
  add_block(builder, {.kv_rows = 16, .experts = 2});
  const auto awq = builder.modifier("AWQModifier", RecipeValue::Map{{"duo_scaling", "both"}});
  builder.modifier(kSchemed, w4_groups());
  ASSERT_TRUE(awq->on_calibration_start(builder.state()).ok());
  Calibrated data(builder);
  const auto reports = builder.run(*awq, data.block.unit);
  ASSERT_TRUE(reports.ok()) << reports.error().message();
  EXPECT_THAT(*reports, SizeIs(4));
  for (const LayerReport& report : *reports) EXPECT_THAT(report.notes, SizeIs(1)) << report.module;
  double sum = 0, plain_sum = 0;
  for (const LayerReport& report : *reports) sum += *report.loss;
  UnitBuilder other;
  add_block(other, {.kv_rows = 16, .experts = 2});
  const auto off = other.modifier("AWQModifier", RecipeValue::Map{{"duo_scaling", false}, {"n_grid", 2}});
  other.modifier(kSchemed, w4_groups());
  ASSERT_TRUE(off->on_calibration_start(other.state()).ok());
  Calibrated rough(other);
  const auto rough_reports = other.run(*off, rough.block.unit);
  for (const LayerReport& report : *rough_reports) plain_sum += *report.loss;
  EXPECT_LT(sum, plain_sum);
}

// Two runs that differ only in the clip search.
struct ClipPair {
  ClipPair() {
    for (const bool clips : {false, true}) {
      UnitBuilder& builder = builders.emplace_back();
      add_block(builder, {});
      const auto awq = builder.modifier("AWQModifier", RecipeValue::Map{{"clip_search", clips}});
      builder.modifier(kSchemed, w4_groups());
      EXPECT_TRUE(awq->on_calibration_start(builder.state()).ok());
      Calibrated& data = runs.emplace_back(builder);
      EXPECT_TRUE(builder.run(*awq, data.block.unit).ok());
    }
  }
  // E ||(Q(w) - w) x||^2 of a linear behind the MLP norm, x its scaled input, w its weight without clipping.
  double rounding_error(std::size_t run, const std::string& leaf) {
    Block before(builders[0]);
    const Matrix norm = before.weight("post_attention_layernorm");
    const Matrix smoothed = runs[0].block.weight("post_attention_layernorm");
    Matrix h;
    Tensor rounded;
    for (ModuleWork& work : runs[run].block.unit.modules) {
      if (!work.module->name.ends_with(leaf)) continue;
      h = work.statistics->hessian->values;
      EXPECT_TRUE(round_module(work, std::nullopt, "", builders[run].pool()).ok());
      rounded = work.compressed->dense(builders[run].pool()).value();
    }
    for (std::int64_t r = 0; r < h.rows(); ++r) {
      for (std::int64_t c = 0; c < h.cols(); ++c) {
        h.at(r, c) *= smoothed.at(r, 0) / norm.at(r, 0) * smoothed.at(c, 0) / norm.at(c, 0);
      }
    }
    return testing::layer_loss(matrix_of(rounded), runs[0].block.weight(leaf), h);
  }

  std::deque<UnitBuilder> builders;
  std::deque<Calibrated> runs;
};

TEST(AwqModifierTest, ClipSearchLowersTheErrorOfRounding) {
  ClipPair pair;
  for (const char* leaf : {"gate_proj", "up_proj"}) {
    EXPECT_LT(pair.rounding_error(1, leaf), 0.98 * pair.rounding_error(0, leaf)) << leaf;
  }
  EXPECT_TRUE(testing::same_bits(pair.runs[0].block.weight("q_proj"), pair.runs[1].block.weight("q_proj")));
}

// Keeps what it is asked and prefers the fourth candidate.
class FakeJudge final : public SublayerJudge {
 public:
  Result<double> output_error(int first_stage, std::span<const Replacement> replacements) override {
    stages.push_back(first_stage);
    for (const Replacement& replacement : replacements) names.insert(replacement.module->name);
    return stages.size() % 20 == 4 ? 0.5 : 1.0;
  }
  std::vector<int> stages;
  std::set<std::string> names;
};

TEST(AwqModifierTest, StrictRulesAskTheJudgeWhereLayersMeet) {
  UnitBuilder builder(true);
  add_block(builder, {});
  const auto awq = builder.modifier("AWQModifier", {});
  builder.modifier(kSchemed, w4_groups());
  ASSERT_TRUE(awq->on_calibration_start(builder.state()).ok());
  for (const ModuleInfo& module : builder.model().modules) {
    const unsigned needed = awq->needs(builder.state(), module);
    if (module.stage < 0) {
      EXPECT_EQ(needed, kNoStatistic);
    } else {
      EXPECT_EQ(needed, kInputAbsMean | (module.stage % 2 == 0 ? kSublayerError : kHessian)) << module.name;
    }
  }
  Calibrated data(builder);
  FakeJudge judge;
  data.block.unit.judge = &judge;
  const auto reports = builder.run(*awq, data.block.unit);
  ASSERT_TRUE(reports.ok()) << reports.error().message();
  EXPECT_THAT(judge.stages, SizeIs(40));  // 20 candidates for each of two sublayers
  EXPECT_EQ(judge.stages.front(), 0);
  EXPECT_EQ(judge.stages.back(), 2);
  EXPECT_THAT(judge.names, SizeIs(5));
  EXPECT_THAT((*reports)[0].notes[0], HasSubstr("ratio 0.11 with weights: 50.0 %"));
}

TEST(AwqModifierTest, NothingQuantizedAfterItIsAnError) {
  UnitBuilder builder;
  add_block(builder, {});
  const auto awq = builder.modifier("AWQModifier", {});
  const Status status = awq->on_calibration_start(builder.state());
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kUsage);
}

}  // namespace
}  // namespace nibble
