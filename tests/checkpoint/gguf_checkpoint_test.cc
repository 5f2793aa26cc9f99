// SPDX-License-Identifier: Apache-2.0
// GGUF models by llama.cpp's own converter give the tensors of the Hugging Face models they were made from.
#include "checkpoint/gguf_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/hash.h"
#include "base/json.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf_config.h"
#include "gguf_builder.h"
#include "test_files.h"

namespace nibble {
namespace {

using test::GgufBuilder;
using test::golden;
using test::TemporaryFolder;
using test::write_bytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Json& expected() {
  static const Json json = read_json_file(golden("checkpoint/gguf/expected.json")).value();
  return json;
}

std::unique_ptr<Checkpoint> open_golden(const std::string& name) {
  auto opened = Checkpoint::open(golden("checkpoint/gguf/" + name + ".gguf").string());
  EXPECT_TRUE(opened.ok()) << opened.error().message();
  return opened.ok() ? std::move(opened).value() : nullptr;
}

class GgufModelTest : public ::testing::TestWithParam<std::string> {};

TEST_P(GgufModelTest, HasTheTensorsOfTheHuggingFaceModel) {
  const auto model = open_golden(GetParam());
  ASSERT_NE(model, nullptr);
  const auto norms = Checkpoint::open(golden("checkpoint/gguf/gemma_norms.safetensors").string()).value();
  const Json& tensors = expected()[GetParam()];
  EXPECT_EQ(model->tensors().size(), tensors.size());
  for (const auto& [name, wanted] : tensors.items()) {
    const TensorInfo* info = model->find(name);
    ASSERT_NE(info, nullptr) << name;
    EXPECT_EQ(info->shape, wanted["shape"].get<Shape>()) << name;
    const auto tensor = model->load(name);
    ASSERT_TRUE(tensor.ok()) << tensor.error().message();
    EXPECT_EQ(tensor->shape(), info->shape);
    EXPECT_EQ(tensor->dtype(), info->dtype);
    const std::vector<float> values = tensor->to_f32();
    if (!wanted.contains("f32")) {  // Gemma: (w + 1) - 1 rounds
      const std::vector<float> exact = norms->load(GetParam() + "/" + name)->to_f32();
      for (std::size_t i = 0; i < exact.size(); ++i) EXPECT_NEAR(values[i], exact[i], 1.2e-7) << name;
      continue;
    }
    EXPECT_EQ(sha256_hex(std::as_bytes(std::span(values))), wanted[info->stored_as == "F16" ? "f16" : "f32"])
        << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Converted, GgufModelTest,
                         ::testing::Values("llama-bias", "qwen3", "gemma", "gemma2", "gemma3", "phi3",
                                           "phi3_long", "gpt2", "gpt_neox", "mixtral", "qwen2_moe",
                                           "qwen3_moe", "starcoder2", "olmo2", "stablelm", "bert-qa",
                                           "stories260K", "stories260K-q4_0"),
                         [](const auto& test) {
                           std::string name = test.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(GgufConfigTest, HasWhatTransformersNeeds) {
  const Json llama = open_golden("llama-bias")->config();
  EXPECT_EQ(llama["model_type"], "llama");
  EXPECT_EQ(llama["architectures"], Json::array({"LlamaForCausalLM"}));
  EXPECT_EQ(llama["vocab_size"], 333);
  EXPECT_EQ(llama["attention_bias"], true);
  EXPECT_EQ(llama["mlp_bias"], true);
  EXPECT_EQ(llama["rms_norm_eps"], 1e-5);
  EXPECT_EQ(llama["torch_dtype"], "float16");
  EXPECT_EQ(open_golden("stories260K")->config()["tie_word_embeddings"], true);
  EXPECT_EQ(open_golden("stories260K-q4_0")->config()["torch_dtype"], "float32") << "some matrices are F16";

  const Json qwen3 = open_golden("qwen3")->config();
  EXPECT_EQ(qwen3["head_dim"], 24);
  const Json gemma3 = open_golden("gemma3")->config();
  EXPECT_EQ(gemma3["model_type"], "gemma3_text");
  EXPECT_EQ(gemma3["rope_scaling"], (Json{{"rope_type", "linear"}, {"factor", 2.0}}));
  EXPECT_EQ(gemma3["layer_types"].size(), 3U);
  const Json phi3 = open_golden("phi3_long")->config();
  EXPECT_EQ(phi3["rope_scaling"]["rope_type"], "longrope");
  EXPECT_EQ(phi3["rope_scaling"]["long_factor"][1], 1.3);
  EXPECT_EQ(phi3["original_max_position_embeddings"], 64);
  EXPECT_EQ(phi3["sliding_window"], nullptr);
  const Json moe = open_golden("qwen2_moe")->config();
  EXPECT_EQ(moe["num_experts"], 4);
  EXPECT_EQ(moe["moe_intermediate_size"], 48);
  EXPECT_EQ(moe["shared_expert_intermediate_size"], 80);
  const Json neox = open_golden("gpt_neox")->config();
  EXPECT_EQ(neox["rotary_pct"], 0.25);
  EXPECT_EQ(neox["use_parallel_residual"], true);
  const Json stablelm = open_golden("stablelm")->config();
  EXPECT_EQ(stablelm["qk_layernorm"], true);
  EXPECT_EQ(stablelm["use_parallel_residual"], false);
  EXPECT_EQ(open_golden("gpt2")->config()["n_embd"], 72);
}

// The factors as llama.cpp's converter computes them.
std::vector<float> llama3_factors(double factor, double low, double high, double original, double theta,
                                  int dim) {
  std::vector<float> factors;
  for (int i = 0; i < dim / 2; ++i) {
    const double wavelength = 6.283185307179586 * std::pow(theta, 2.0 * i / dim);
    const double smooth = (original / wavelength - low) / (high - low);
    const double f = wavelength < original / high  ? 1.0
                     : wavelength > original / low ? factor
                                                   : 1.0 / ((1.0 - smooth) / factor + smooth);
    factors.push_back(static_cast<float>(f));
  }
  return factors;
}

TEST(GgufConfigTest, FindsTheParametersOfLlama3ScalingBehindTheFactors) {
  EXPECT_TRUE(llama3_rope_scaling(std::vector<float>(8, 1.0F), 10000.0).is_null());
  struct Case {
    double factor, low, high, original, theta;
    int dim;
  };
  for (const Case& c :
       {Case{8, 1, 4, 8192, 500000, 128}, Case{32, 1, 4, 8192, 500000, 64}, Case{4, 1, 8, 2048, 10000, 128},
        Case{16, 2, 6, 4096, 500000, 128}, Case{8, 1, 4, 1024, 10000, 16}}) {
    const auto factors = llama3_factors(c.factor, c.low, c.high, c.original, c.theta, c.dim);
    const Json scaling = llama3_rope_scaling(factors, c.theta);
    ASSERT_EQ(scaling["rope_type"], "llama3");
    const auto again =
        llama3_factors(scaling["factor"], scaling["low_freq_factor"], scaling["high_freq_factor"],
                       scaling["original_max_position_embeddings"], c.theta, c.dim);
    for (std::size_t i = 0; i < factors.size(); ++i) EXPECT_NEAR(again[i], factors[i], 5e-4F * factors[i]);
  }
  const Json unknown = llama3_rope_scaling(std::vector<float>{1, 5, 2, 9}, 10000.0);
  EXPECT_EQ(unknown["rope_type"], "gguf_frequency_factors") << "never a guess";
}

TEST(GgufCheckpointTest, AVocabularyOpensWithoutTensors) {
  const TemporaryFolder folder;
  write_bytes(folder / "vocab.gguf", GgufBuilder()
                                         .key("general.architecture", "falcon")
                                         .key("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"})
                                         .bytes());
  auto opened = Checkpoint::open((folder / "vocab.gguf").string());
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  EXPECT_TRUE((*opened)->tensors().empty());
  EXPECT_EQ((*opened)->config()["model_type"], "falcon");
  EXPECT_THAT(*(*opened)->gguf()->strings("tokenizer.ggml.tokens"), ElementsAre("a", "b"));
}

TEST(GgufCheckpointTest, UnknownTensorsKeepTheirNames) {
  const TemporaryFolder folder;
  write_bytes(folder / "m.gguf", GgufBuilder()
                                     .key("general.architecture", "llama")
                                     .tensor("rope_freqs.weight", {2}, {1, 1})
                                     .tensor("strange", {2}, {1, 2})
                                     .bytes());
  auto opened = Checkpoint::open((folder / "m.gguf").string());
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  ASSERT_EQ((*opened)->tensors().size(), 1U) << "rope_freqs is part of the configuration";
  EXPECT_EQ((*opened)->tensors()[0].name, "strange");
}

TEST(GgufCheckpointTest, ScaleTensorsMultiplyTheirWeights) {
  const TemporaryFolder folder;
  write_bytes(folder / "m.gguf", GgufBuilder()
                                     .key("general.architecture", "llama")
                                     .key("llama.expert_count", 2)
                                     .tensor("blk.0.attn_v.weight", {1, 2}, {1, 2})
                                     .tensor("blk.0.attn_v.scale", {1}, {0.5F})
                                     .tensor("blk.0.ffn_up_exps.weight", {2, 1, 2}, {1, 2, 3, 4})
                                     .tensor("blk.0.ffn_up_exps.scale", {2}, {2, 10})
                                     .bytes());
  auto opened = Checkpoint::open((folder / "m.gguf").string());
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  EXPECT_EQ((*opened)->tensors().size(), 3U);
  EXPECT_THAT((*opened)->load("model.layers.0.self_attn.v_proj.weight")->to_f32(), ElementsAre(0.5F, 1.0F));
  EXPECT_THAT((*opened)->load("model.layers.0.block_sparse_moe.experts.1.w3.weight")->to_f32(),
              ElementsAre(30.F, 40.F));
}

TEST(GgufCheckpointTest, FusedGateAndUpExpertsAreSplit) {
  const TemporaryFolder folder;
  write_bytes(folder / "m.gguf", GgufBuilder()
                                     .key("general.architecture", "qwen3moe")
                                     .tensor("blk.3.ffn_gate_up_exps.weight", {2, 2, 1}, {1, 2, 3, 4})
                                     .bytes());
  auto opened = Checkpoint::open((folder / "m.gguf").string());
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  EXPECT_THAT((*opened)->load("model.layers.3.mlp.experts.1.gate_proj.weight")->to_f32(), ElementsAre(3.0F));
  EXPECT_THAT((*opened)->load("model.layers.3.mlp.experts.1.up_proj.weight")->to_f32(), ElementsAre(4.0F));
}

TEST(GgufCheckpointTest, HeadCountsThatDoNotFitAreRefused) {
  const TemporaryFolder folder;
  write_bytes(folder / "m.gguf", GgufBuilder()
                                     .key("general.architecture", "llama")
                                     .key("llama.attention.head_count", 3)
                                     .tensor("blk.0.attn_q.weight", {4, 1}, {1, 2, 3, 4})
                                     .bytes());
  const auto opened = Checkpoint::open((folder / "m.gguf").string());
  ASSERT_FALSE(opened.ok());
  EXPECT_THAT(opened.error().message(),
              HasSubstr("tensor blk.0.attn_q.weight: 4 rows cannot be shared by 3 heads"));
}

TEST(GgufCheckpointTest, TwoTensorsOfOneNameAreRefused) {
  const TemporaryFolder folder;
  write_bytes(folder / "m.gguf", GgufBuilder()
                                     .key("general.architecture", "qwen2")
                                     .tensor("blk.0.attn_q.weight", {1, 1}, {1})
                                     .tensor("blk.00.attn_q.weight", {1, 1}, {1})
                                     .bytes());
  const auto opened = Checkpoint::open((folder / "m.gguf").string());
  ASSERT_FALSE(opened.ok());
  EXPECT_THAT(opened.error().message(), HasSubstr("second tensor model.layers.0.self_attn.q_proj.weight"));
}

std::string refusal(const std::filesystem::path& model) {
  const auto opened = Checkpoint::open(model.string());
  return opened.ok() ? "opened" : opened.error().message();
}

std::string part(int number, const std::string& tensor) {
  return GgufBuilder()
      .key("general.architecture", "qwen2")
      .key("split.no", number)
      .key("split.count", 2)
      .tensor(tensor, {1, 2}, {static_cast<float>(number), 1})
      .bytes();
}

TEST(GgufCheckpointTest, PartsOfASplitModelAreOneModel) {
  const TemporaryFolder folder;
  write_bytes(folder / "m-00001-of-00002.gguf", part(0, "token_embd.weight"));
  EXPECT_THAT(refusal(folder.path()), HasSubstr("m-00002-of-00002.gguf"));
  write_bytes(folder / "m-00002-of-00002.gguf", part(1, "output.weight"));
  for (const auto& given :
       {folder.path(), folder / "m-00001-of-00002.gguf", folder / "m-00002-of-00002.gguf"}) {
    auto opened = Checkpoint::open(given.string());
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    EXPECT_THAT((*opened)->load("lm_head.weight")->to_f32(), ElementsAre(1.0F, 1.0F));
    EXPECT_EQ((*opened)->config()["tie_word_embeddings"], false);
  }
  write_bytes(folder / "other.gguf", part(0, "token_embd.weight"));
  EXPECT_THAT(Checkpoint::open((folder / "other.gguf").string()).error().message(),
              HasSubstr("original names"));
  EXPECT_THAT(refusal(folder.path()), HasSubstr("2 GGUF models"));
}

}  // namespace
}  // namespace nibble
