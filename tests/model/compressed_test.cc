// SPDX-License-Identifier: Apache-2.0
// Compressed checkpoints of the reference, run by the same forward: packed weights, rounded activations,
// quantized caches, online rotations.
#include <gtest/gtest.h>

#include <cmath>

#include "base/json.h"
#include "checkpoint/online_transforms.h"
#include "checkpoint/quantized_checkpoint.h"
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

// The targets and ignored modules of every use of a rotation.
std::unique_ptr<FakeCheckpoint> rotated(const Json& targets, const Json& ignore) {
  auto checkpoint = std::make_unique<FakeCheckpoint>(open_checkpoint(folder("quip-uv-whole")));
  Json& groups = checkpoint->config()["quantization_config"]["transform_config"]["config_groups"];
  for (auto& [name, group] : groups.items()) {
    for (Json& use : group["apply"]) {
      use["targets"] = targets;
      use["ignore"] = ignore;
    }
  }
  return checkpoint;
}

// Of both readers: the forward, and the view as a dense model.
std::string refusal_of_rotation(const Json& targets, const Json& ignore) {
  TestContext test;
  const auto checkpoint = rotated(targets, ignore);
  const auto opened = Transformer::open(test.context, *checkpoint);
  const auto dense = decompressed(rotated(targets, ignore), test.context.pool);
  EXPECT_EQ(opened.ok(), dense.ok());
  if (opened.ok() || dense.ok()) return "accepted";
  EXPECT_NE(opened.error().message().find(dense.error().message()), std::string::npos)
      << opened.error().message() << " | " << dense.error().message();
  EXPECT_EQ(opened.error().code, ErrorCode::kBadData);
  return opened.error().message() + " " + opened.error().hint;
}

TEST(CompressedErrorsTest, ARotationThatNoLinearTakesIsRefused) {
  const auto says = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  const std::string slip = refusal_of_rotation({"re:.*down_prj$", "Linaer"}, Json::array());
  says(slip, "transform_config: u: apply at \"output\"");
  says(slip, "no linear matches its targets (\"re:.*down_prj$\", \"Linaer\")");
  says(slip, "down_proj");
  says(refusal_of_rotation({"Linaer"}, Json::array()), "did you mean Linear?");
  says(refusal_of_rotation({"re:.*down_proj$"}, {"re:.*mlp.*"}), "is ignored");
  says(refusal_of_rotation(Json::array(), Json::array()), "there are no targets");
  EXPECT_EQ(refusal_of_rotation({"Linear"}, {"lm_head"}), "accepted");
  EXPECT_EQ(refusal_of_rotation({"Linear", "re:.*w2$"}, {"lm_head"}), "accepted");
}

// Lists for several models name what only some have; what looks like a slip is worth a warning.
TEST(CompressedErrorsTest, EntriesBesideThoseThatMatchAreOnlyTold) {
  const auto unmatched = [](const Json& targets, const Json& ignore) {
    const auto checkpoint = rotated(targets, ignore);
    const auto config = read_quantization_config(checkpoint->config());
    std::vector<std::string> found;
    EXPECT_TRUE(check_online_targets(**config, *checkpoint, &found).ok());
    return found;
  };
  EXPECT_TRUE(unmatched({"Linear"}, {"re:.*vision_tower.*"}).empty());
  const std::vector<std::string> target = unmatched({"Linear", "re:.*experts.*w2$"}, Json::array());
  ASSERT_EQ(target.size(), 2U);  // of u and of v
  EXPECT_EQ(target[0].find("transform_config: u: apply at \"output\": target \"re:.*experts.*w2$\""), 0U)
      << target[0];
  const std::vector<std::string> ignored = unmatched({"Linear"}, {"re:.*down_prj$"});
  ASSERT_EQ(ignored.size(), 2U);
  EXPECT_NE(ignored[0].find("did you mean down_proj"), std::string::npos) << ignored[0];
}

}  // namespace
}  // namespace nibble
