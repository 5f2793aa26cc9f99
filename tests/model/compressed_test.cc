// SPDX-License-Identifier: Apache-2.0
// Compressed checkpoints of the reference, run by the same forward: packed weights, rounded activations,
// quantized caches, online rotations.
#include <gtest/gtest.h>

#include <cmath>

#include "model/model_test_util.h"
#include "model/transformer.h"

namespace nibble {
namespace {

std::filesystem::path folder(const std::string& name) {
  return golden_root() / "compressed" / name;
}

std::vector<float> our_logits(const std::string& name) {
  TestContext test;
  const auto checkpoint = open_checkpoint(folder(name));
  auto model = Transformer::open(test.context, *checkpoint);
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().message());
  if (!model.ok()) return {};
  const Tensor ids = open_checkpoint(folder("eval_ids.safetensors"))->load("input_ids").value();
  std::vector<TokenId> tokens;
  for (const std::int64_t id : ids.as<std::int64_t>()) tokens.push_back(static_cast<TokenId>(id));
  const Outputs out = (*model)->outputs(test.context, Batch::of(tokens)).value();
  return {out.logits.values().begin(), out.logits.values().end()};
}

struct Errors {
  double largest = 0, mean_square = 0, scale = 0, variance = 0;
};

Errors errors(std::span<const float> got, std::span<const float> wanted) {
  Errors out;
  EXPECT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < std::min(got.size(), wanted.size()); ++i) {
    const double difference = static_cast<double>(got[i]) - static_cast<double>(wanted[i]);
    out.largest = std::max(out.largest, std::fabs(difference));
    out.mean_square += difference * difference / static_cast<double>(wanted.size());
    out.variance +=
        static_cast<double>(wanted[i]) * static_cast<double>(wanted[i]) / static_cast<double>(wanted.size());
    out.scale = std::max(out.scale, std::fabs(static_cast<double>(wanted[i])));
  }
  return out;
}

class CompressedTest : public ::testing::TestWithParam<std::string> {};

// The reference's simulation in fp32.
TEST_P(CompressedTest, LogitsEqualTheReferenceInFp32) {
  const auto goldens = open_checkpoint(folder("fp32_logits.safetensors"));
  const std::vector<float> wanted =
      goldens->find(GetParam()) != nullptr
          ? goldens->load(GetParam())->to_f32()
          : open_checkpoint(folder(GetParam()) / "golden_logits.safetensors")->load("logits")->to_f32();
  const Errors found = errors(our_logits(GetParam()), wanted);
  EXPECT_LE(found.largest, 1e-4 * found.scale);
}

std::string test_name(const ::testing::TestParamInfo<std::string>& param) {
  std::string name = param.param;
  std::ranges::replace(name, '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Goldens, CompressedTest,
                         ::testing::Values("w4_g32_asym_fp32", "w8a8_static_asym", "mxfp4", "output_static",
                                           "kv_cache_fp8", "fp8_dynamic", "w3_g64", "quip-uv-whole"),
                         test_name);

// These goldens were computed in bf16: what is left is its noise, at most 1 % of the signal's power.
TEST(CompressedBf16Test, LogitsAgreeUpToTheNoiseOfBf16) {
  for (const char* name : {"mixed", "with_lm_head_and_embed", "mixtral_w4_g32", "dense_uncompressed"}) {
    SCOPED_TRACE(name);
    const auto golden = open_checkpoint(folder(name) / "golden_logits.safetensors");
    const char* tensor = golden->find("logits_reloaded") != nullptr ? "logits_reloaded" : "logits";
    const Errors found = errors(our_logits(name), golden->load(tensor)->to_f32());
    EXPECT_LE(found.mean_square, 0.01 * found.variance);
  }
}

TEST(CompressedWeightTest, OperatorsHoldTheDecompressedWeightsOfTheReference) {
  int seen = 0;
  for (const auto& entry : std::filesystem::directory_iterator(golden_root() / "compressed")) {
    if (!std::filesystem::exists(entry.path() / "golden_dequant.safetensors")) continue;
    SCOPED_TRACE(entry.path().filename().string());
    if (entry.path().filename() == "dense_uncompressed")
      continue;  // rounded in the forward, stored as they were
    TestContext test;
    const auto checkpoint = open_checkpoint(entry.path());
    const auto model = Transformer::open(test.context, *checkpoint).value();
    const auto golden = open_checkpoint(entry.path() / "golden_dequant.safetensors");
    for (const TensorInfo& tensor : golden->tensors()) {
      const ModuleInfo* module = nullptr;
      for (const ModuleInfo& candidate : model->description().modules) {
        if (candidate.disk_name + ".weight" == tensor.name) module = &candidate;
      }
      if (module == nullptr || module->block < 0) continue;
      const Matrix ours = model->block(module->block).linear(module->name)->weight();
      const std::vector<float> wanted = golden->load(tensor.name)->to_f32();
      ASSERT_EQ(static_cast<std::size_t>(ours.rows() * ours.cols()), wanted.size());
      // Ours is the fp32 product of code and scale; the reference rounds it to the model's dtype.
      const float ulp = tensor.dtype == DType::kBF16 ? 1.0f / 256 : 1e-6f;
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        ASSERT_NEAR(ours.values()[i], wanted[i], std::fabs(wanted[i]) * ulp) << tensor.name << " " << i;
      }
      ++seen;
    }
  }
  EXPECT_GE(seen, 8);
}

TEST(CompressedTestSlices, HeadInSlicesEqualsTheWhole) {
  TestContext test;
  const auto checkpoint = open_checkpoint(folder("with_lm_head_and_embed"));
  const auto model = Transformer::open(test.context, *checkpoint).value();
  const Linear& head = *model->head().lm_head();
  Matrix x(3, head.info().cols);
  for (std::size_t i = 0; i < x.values().size(); ++i) x.values()[i] = static_cast<float>(i % 17) - 8.0f;
  Matrix whole(3, head.info().rows), part(3, 100);
  head.apply(test.context.pool, x.data(), 3, whole.data());
  head.apply_rows(test.context.pool, x.data(), 3, 37, 100, part.data(), 100);
  for (std::int64_t r = 0; r < 3; ++r) {
    for (std::int64_t c = 0; c < 100; ++c) EXPECT_EQ(part.at(r, c), whole.at(r, 37 + c));
  }
}

TEST(CompressedErrorsTest, ForeignMethodsAndMissingScalesAreRefused) {
  TestContext test;
  FakeCheckpoint foreign(open_checkpoint(golden_model("llama")));
  foreign.config()["quantization_config"] = {{"quant_method", "gptq"}, {"bits", 4}};
  const auto refused = Transformer::open(test.context, foreign);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message().find("gptq"), std::string::npos);

  FakeCheckpoint damaged(open_checkpoint(folder("w8a8_static_asym")));
  damaged.remove("model.layers.0.mlp.up_proj.input_scale");
  const auto missing = Transformer::open(test.context, damaged);
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.error().message().find("model.layers.0.mlp.up_proj"), std::string::npos);
}

}  // namespace
}  // namespace nibble
