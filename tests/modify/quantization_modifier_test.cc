// SPDX-License-Identifier: Apache-2.0
// QuantizationModifier on calibrated units: what is stored for activations, which observer sees what, what
// propagates.
#include "modify/quantization.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calibrate/observers.h"
#include "modify/unit.h"

namespace nibble {
namespace {

using testing::correlated_inputs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::InputStatistics;
using ::testing::Key;
using testing::matrix_of;
using testing::output_error;
using testing::same_bits;
using testing::UnitBuilder;
using testing::weight_like;
using testing::work_of;

// As a pipeline observes: one batch.
ActivationParams observed(ThreadPool& pool, const QuantizationArgs& args, const Matrix& x, DType dtype,
                          std::int64_t head_dim = 0) {
  auto observer = ActivationObserver::create(args, dtype, head_dim).value();
  observer.observe(pool, x.data(), x.rows(), x.cols());
  return observer.params().value();
}

struct CalibratedInputs {
  CalibratedInputs(const RecipeValue& body, bool is_strict, DType dtype = DType::kBF16)
      : builder(is_strict),
        x(correlated_inputs(128, 64, 0.8, 1)),
        weight(weight_like(32, 64, 2)),
        statistics(builder.pool(), x) {
    builder.linear(testing::kDownProj, ModuleRole::kDown, 3, 32, 64);
    modifier = builder.modifier("QuantizationModifier", body);
    const QuantizationScheme* scheme = builder.state().schemes.at(0);
    if (scheme->input_activations && scheme->input_activations->dynamic != Dynamic::kTrue)
      statistics.values().input_params = observed(builder.pool(), *scheme->input_activations, x, dtype);
    if (scheme->output_activations)
      statistics.values().output_params = observed(builder.pool(), *scheme->output_activations, x, dtype);
    unit.modules.push_back(work_of(builder.model().modules[0], weight, &statistics.values(), dtype));
  }
  ModuleWork& work() { return unit.modules[0]; }

  UnitBuilder builder;
  Matrix x, weight;
  InputStatistics statistics;
  std::unique_ptr<Modifier> modifier;
  UnitWork unit;
};

TEST(QuantizationModifierTest, StaticInputsAreStoredAsTheReferenceNamesThem) {
  CalibratedInputs fp8(RecipeValue::Map{{"scheme", "FP8"}}, true);
  EXPECT_EQ(fp8.modifier->needs(fp8.builder.state(), fp8.builder.model().modules[0]), kInputParams);
  ASSERT_TRUE(fp8.builder.run(*fp8.modifier, fp8.unit).ok());
  ASSERT_THAT(fp8.work().activation_tensors, ElementsAre(Key("input_scale")));
  EXPECT_EQ(fp8.work().activation_tensors.at("input_scale").dtype(), DType::kBF16);
  EXPECT_EQ(fp8.work().activation_tensors.at("input_scale").shape(), Shape{1});

  CalibratedInputs nvfp4(RecipeValue::Map{{"scheme", "NVFP4"}}, true);
  ASSERT_TRUE(nvfp4.builder.run(*nvfp4.modifier, nvfp4.unit).ok());
  ASSERT_THAT(nvfp4.work().activation_tensors, ElementsAre(Key("input_global_scale")));
  EXPECT_EQ(nvfp4.work().activation_tensors.at("input_global_scale").dtype(), DType::kF32);
}

RecipeValue group_of(const RecipeValue& scheme) {
  RecipeValue group = scheme;
  group.set("targets", RecipeValue::text_list({"Linear"}));
  return RecipeValue::Map{{"config_groups", RecipeValue::Map{{"group_0", group}}}};
}

RecipeValue int8(const char* strategy, bool symmetric) {
  return RecipeValue::Map{
      {"num_bits", 8}, {"type", "int"}, {"symmetric", symmetric}, {"strategy", strategy}, {"dynamic", false}};
}

TEST(QuantizationModifierTest, AsymmetricInputsAndOutputsHaveZeroPoints) {
  const RecipeValue scheme = RecipeValue::Map{{"weights", int8("channel", true)},
                                              {"input_activations", int8("tensor", false)},
                                              {"output_activations", int8("tensor", true)}};
  CalibratedInputs layer(group_of(scheme), true);
  EXPECT_EQ(layer.modifier->needs(layer.builder.state(), layer.builder.model().modules[0]),
            kInputParams | kOutputParams);
  ASSERT_TRUE(layer.builder.run(*layer.modifier, layer.unit).ok());
  EXPECT_THAT(layer.work().activation_tensors,
              ElementsAre(Key("input_scale"), Key("input_zero_point"), Key("output_scale")));
  EXPECT_EQ(layer.work().activation_tensors.at("input_zero_point").dtype(), DType::kI8);
}

TEST(QuantizationModifierTest, StaticActivationsWithoutDataAreAnError) {
  CalibratedInputs layer(RecipeValue::Map{{"scheme", "FP8"}}, false);
  layer.statistics.values().input_params.reset();
  const auto result = layer.builder.run(*layer.modifier, layer.unit);
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(result.error().message(), HasSubstr(testing::kDownProj));
}

TEST(QuantizationModifierTest, KeysAndValuesBelongToAttention) {
  for (const char* strategy : {"tensor", "attn_head"}) {
    UnitBuilder builder;
    ModuleInfo attention;
    attention.name = "model.layers.0.self_attn";
    attention.class_name = "LlamaAttention";
    attention.kind = ModuleKind::kAttention;
    attention.role = ModuleRole::kAttention;
    builder.add(attention);
    builder.linear("model.layers.0.self_attn.k_proj", ModuleRole::kKey, 0, 32, 64);
    RecipeValue body = RecipeValue::Map{{"kv_cache_scheme", int8(strategy, true)}};
    body.set("ignore", RecipeValue::text_list({"Linear"}));
    const auto modifier = builder.modifier("QuantizationModifier", body);
    EXPECT_EQ(modifier->needs(builder.state(), builder.model().modules[0]), kOutputParams);
    ModuleStatistics seen;
    const Matrix keys = correlated_inputs(64, 32, 0.5, 4);
    const QuantizationArgs& args = *builder.state().schemes.kv_cache_scheme;
    seen.key_params = observed(builder.pool(), args, keys, DType::kBF16, 16);
    seen.value_params = observed(builder.pool(), args, keys, DType::kBF16, 16);
    UnitWork unit;
    unit.modules.emplace_back();
    unit.modules[0].module = &builder.model().modules[0];
    unit.modules[0].statistics = &seen;
    const auto reports = builder.run(*modifier, unit);
    ASSERT_TRUE(reports.ok()) << reports.error().message();
    EXPECT_TRUE(reports->empty());
    ASSERT_THAT(unit.modules[0].activation_tensors, ElementsAre(Key("k_scale"), Key("v_scale")));
    EXPECT_EQ(unit.modules[0].activation_tensors.at("k_scale").shape(),
              std::string(strategy) == "tensor" ? Shape{1} : (Shape{2, 1, 1}));
  }
}

RecipeValue w4_with(const char* observer) {
  return group_of(RecipeValue::Map{{"weights", RecipeValue::Map{{"num_bits", 4},
                                                                {"type", "int"},
                                                                {"symmetric", true},
                                                                {"strategy", "group"},
                                                                {"group_size", 32},
                                                                {"observer", observer}}}});
}

TEST(QuantizationModifierTest, ImportanceReachesItsObserver) {
  CalibratedInputs plain(w4_with("memoryless_minmax"), true), weighted(w4_with("imatrix_mse"), true);
  EXPECT_EQ(weighted.modifier->needs(weighted.builder.state(), weighted.builder.model().modules[0]),
            kInputSquareMean);
  double errors[2];
  int i = 0;
  for (CalibratedInputs* layer : {&plain, &weighted}) {
    const auto reports = layer->builder.run(*layer->modifier, layer->unit);
    ASSERT_TRUE(reports.ok()) << reports.error().message();
    const Matrix stored = matrix_of(layer->work().compressed->dense(layer->builder.pool()).value());
    const Matrix original = matrix_of(layer->work().weight);
    EXPECT_TRUE(reports->at(0).of_outputs);
    EXPECT_NEAR(reports->at(0).relative_error, output_error(stored, original, layer->x), 1e-4);
    errors[i++] = reports->at(0).relative_error;
  }
  EXPECT_LT(errors[1], errors[0]);
}

TEST(QuantizationModifierTest, OnlyOwnModePropagatesRoundedWeights) {
  for (const bool is_strict : {false, true}) {
    CalibratedInputs layer(w4_with("memoryless_minmax"), is_strict);
    EXPECT_EQ(layer.modifier->changes_weights(layer.builder.state()), !is_strict);
    const Matrix before = matrix_of(layer.work().weight);
    ASSERT_TRUE(layer.builder.run(*layer.modifier, layer.unit).ok());
    EXPECT_EQ(same_bits(matrix_of(layer.work().weight), before), is_strict);
  }
}

TEST(QuantizationModifierTest, GlobalScalesAreSharedByTheSiblingsOfOneParentOnly) {
  const QuantizationScheme nvfp4 = *preset_scheme("NVFP4A16");
  const auto key = [&](const char* name) {
    ModuleInfo module;
    module.name = name;
    return global_scale_key(module, &nvfp4);
  };
  EXPECT_EQ(key("a.self_attn.q_proj"), key("a.self_attn.v_proj"));
  EXPECT_EQ(key("a.mlp.experts.0.gate_proj"), key("a.mlp.experts.0.up_proj"));
  EXPECT_NE(key("a.mlp.experts.0.gate_proj"), key("a.mlp.experts.1.gate_proj"));
  EXPECT_NE(key("a.self_attn.q_proj"), key("a.self_attn.o_proj"));
}

}  // namespace
}  // namespace nibble
