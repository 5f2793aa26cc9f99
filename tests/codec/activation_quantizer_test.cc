// SPDX-License-Identifier: Apache-2.0
#include "codec/activation_quantizer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"
#include "support/golden_args.h"
#include "support/golden_tensors.h"

namespace nibble {
namespace {

using testing::golden_args;
using testing::golden_json;
using testing::GoldenTensors;

TEST(ActivationQuantizer, DynamicSchemesEqualTheReference) {
  const GoldenTensors golden("modifiers/activations_qdq.safetensors");
  const Json index = golden_json("modifiers/activations_qdq.json");
  ThreadPool pool(2);
  int compared = 0;
  for (const auto& [name, entry] : index.items()) {
    if (name.starts_with("static.")) continue;
    const QuantizationArgs args = golden_args(entry["args"], "input_activations");
    const Tensor x = golden.get(entry["x"].get<std::string>());
    const std::int64_t cols = x.shape().back();
    const std::int64_t rows = x.size() / cols;
    ActivationParams params;
    if (golden.has(name + "/global_scale"))
      params.global_scale = golden.get(name + "/global_scale").to_f32()[0];
    const auto quantizer = ActivationQuantizer::create(args, x.dtype(), params);
    ASSERT_TRUE(quantizer.ok()) << quantizer.error().message();
    std::vector<float> values = x.to_f32();
    const auto found = quantizer->params(pool, values.data(), rows, cols);
    const std::vector<float> scales = golden.get(name + "/scale").to_f32();
    ASSERT_EQ(found.size(), scales.size()) << name;
    for (std::size_t i = 0; i < scales.size(); ++i) EXPECT_EQ(found[i].scale, scales[i]) << name << " " << i;
    if (golden.has(name + "/zero_point")) {
      const std::vector<float> zeros = golden.get(name + "/zero_point").to_f32();
      for (std::size_t i = 0; i < zeros.size(); ++i)
        EXPECT_EQ(found[i].zero_point, zeros[i]) << name << " " << i;
    }
    quantizer->apply(pool, values.data(), rows, cols);
    EXPECT_EQ(values, golden.get(name + "/fakequant").to_f32()) << name;
    ++compared;
  }
  EXPECT_EQ(compared, 18);
}

TEST(ActivationQuantizer, StaticScalesPerTensorAndPerHead) {
  ThreadPool pool(1);
  QuantizationArgs args;
  args.strategy = Strategy::kAttnHead;
  args.type = NumberType::kFloat;
  ASSERT_TRUE(args.validate("kv_cache_scheme").ok());
  ActivationParams params;
  params.scale = Tensor::from_f32(DType::kBF16, {2, 1, 1}, std::vector<float>{1.0f, 0.5f});
  const auto heads = ActivationQuantizer::create(args, DType::kBF16, params).value();
  std::vector<float> x{1.06f, -300.0f, 1e4f, 1.06f, -300.0f, 1e4f};
  heads.apply(pool, x.data(), 1, 6);
  EXPECT_EQ(x, (std::vector<float>{1.0f, -288.0f, 448.0f, 1.0f, -224.0f, 224.0f}));

  args.strategy = Strategy::kTensor;
  EXPECT_FALSE(ActivationQuantizer::create(args, DType::kBF16, {}).ok());
  params.scale = Tensor::from_f32(DType::kF32, {1}, std::vector<float>{0.0f});
  EXPECT_FALSE(ActivationQuantizer::create(args, DType::kBF16, params).ok());
  EXPECT_FALSE(
      ActivationQuantizer::create(*preset_scheme("NVFP4")->input_activations, DType::kBF16, {}).ok());
}

TEST(ActivationQuantizer, RowsAreIndependentAndThreadsDoNotMatter) {
  Rng rng(3);
  std::vector<float> x(33 * 70);
  for (float& value : x) value = static_cast<float>(rng.normal());
  ThreadPool one(1);
  ThreadPool four(4);
  for (const char* name : {"W8A8", "W4AFP8", "MXFP4", "MXFP8", "W4A4"}) {
    const QuantizationArgs args = *preset_scheme(name)->input_activations;
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      const auto quantizer = ActivationQuantizer::create(args, dtype).value();
      std::vector<float> a = x;
      std::vector<float> b = x;
      quantizer.apply(one, a.data(), 33, 70);
      quantizer.apply(four, b.data(), 33, 70);
      EXPECT_EQ(a, b);
      std::vector<float> row(x.begin() + 70, x.begin() + 140);
      quantizer.apply(one, row.data(), 1, 70);
      EXPECT_TRUE(std::equal(row.begin(), row.end(), a.begin() + 70)) << name;
      for (const float value : a) EXPECT_EQ(value, round_to(dtype, value));
    }
  }
}

}  // namespace
}  // namespace nibble
