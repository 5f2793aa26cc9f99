// SPDX-License-Identifier: Apache-2.0
#include "model/generate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/model_test_util.h"

namespace nibble {
namespace {

TEST(GenerateTest, GreedyContinuationsEqualTheGoldens) {
  int seen = 0;
  for (const auto& folder : golden_models()) {
    SCOPED_TRACE(folder.filename().string());
    const Golden golden(folder);
    if (!golden.record.contains("greedy_continuation")) continue;
    TestContext test;
    const auto checkpoint = open_checkpoint(folder);
    const auto model = Transformer::open(test.context, *checkpoint).value();
    const auto wanted = golden.record["greedy_continuation"].get<std::vector<TokenId>>();
    const Batch batch = golden.batch();
    GenerateOptions options;
    options.max_new_tokens = static_cast<std::int64_t>(wanted.size());
    const auto got = generate(test.context, *model,
                              std::span(batch.ids).first(static_cast<std::size_t>(batch.length)), options);
    ASSERT_TRUE(got.ok()) << got.error().message();
    EXPECT_EQ(*got, wanted);
    ++seen;
  }
  EXPECT_GE(seen, 30);
}

TEST(GenerateTest, CachedStepsEqualTheForwardOfTheWholeText) {
  for (const char* name : {"llama", "gemma2", "gpt2", "opt", "gpt_neox", "mixtral", "qwen2-window"}) {
    SCOPED_TRACE(name);
    TestContext test;
    const auto checkpoint = open_checkpoint(golden_model(name));
    const auto model = Transformer::open(test.context, *checkpoint).value();
    const Batch batch = Golden(golden_model(name)).batch();
    const std::vector<TokenId> ids(batch.ids.begin(), batch.ids.begin() + 18);
    const Matrix whole = model->hidden(test.context, Batch::of(ids), {}).value();
    KvCache cache(model->config(), 1, 18);
    std::int64_t row = 0;
    for (const std::size_t size : {7u, 1u, 4u, 1u, 5u}) {
      const auto first = ids.begin() + static_cast<std::ptrdiff_t>(row);
      const Matrix part =
          model
              ->hidden(test.context, Batch::of({first, first + static_cast<std::ptrdiff_t>(size)}),
                       {.cache = &cache, .on_layer = {}})
              .value();
      for (std::int64_t r = 0; r < part.rows(); ++r, ++row) {
        for (std::int64_t c = 0; c < part.cols(); ++c)
          ASSERT_NEAR(part.at(r, c), whole.at(row, c), 2e-5) << row;
      }
    }
  }
}

TEST(GenerateTest, StopTokensAndTheCallbackEndTheText) {
  TestContext test;
  const auto checkpoint = open_checkpoint(golden_model("llama"));
  const auto model = Transformer::open(test.context, *checkpoint).value();
  const Golden golden(golden_model("llama"));
  const auto text = golden.record["greedy_continuation"].get<std::vector<TokenId>>();
  const Batch batch = golden.batch();
  const auto prompt = std::span(batch.ids).first(24);
  GenerateOptions options;
  options.max_new_tokens = 16;
  options.stop_tokens = {text[4]};
  EXPECT_EQ(generate(test.context, *model, prompt, options)->size(), 4u);
  options.stop_tokens.clear();
  int calls = 0;
  options.on_token = [&calls](TokenId) { return ++calls < 3; };
  EXPECT_EQ(generate(test.context, *model, prompt, options)->size(), 3u);
}

TEST(GenerateTest, LearnedPositionsEndTheText) {
  TestContext test;
  const auto checkpoint = open_checkpoint(golden_model("gpt2"));
  const auto model = Transformer::open(test.context, *checkpoint).value();
  const std::vector<TokenId> prompt(60, 5);
  GenerateOptions options;
  options.max_new_tokens = 50;
  const auto out = generate(test.context, *model, prompt, options);
  ASSERT_TRUE(out.ok()) << out.error().message();
  EXPECT_EQ(out->size(), 5u);
}

TEST(GenerateTest, WrongRequestsAreRefused) {
  TestContext test;
  const auto checkpoint = open_checkpoint(golden_model("bert-qa"));
  const auto model = Transformer::open(test.context, *checkpoint).value();
  const std::vector<TokenId> prompt{1, 2};
  EXPECT_EQ(generate(test.context, *model, prompt, {}).error().code, ErrorCode::kUsage);
  const auto llama_checkpoint = open_checkpoint(golden_model("llama"));
  const auto llama = Transformer::open(test.context, *llama_checkpoint).value();
  EXPECT_FALSE(generate(test.context, *llama, {}, {}).ok());
  GenerateOptions options;
  options.sampling.top_p = 0;
  EXPECT_FALSE(generate(test.context, *llama, prompt, options).ok());
}

TEST(SampleTokenTest, FrequenciesFollowTheSoftmax) {
  const std::vector<float> logits{1.0f, 0.0f, 2.0f, -1.0f};
  SamplingOptions options;
  options.temperature = 0.8;
  std::vector<double> count(4, 0);
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    count[static_cast<std::size_t>(sample_token(logits, options, static_cast<std::uint64_t>(i)))] += 1;
  }
  double total = 0;
  for (const float x : logits) total += std::exp(static_cast<double>(x) / 0.8);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(count[i] / kDraws, std::exp(static_cast<double>(logits[i]) / 0.8) / total, 0.015);
  }
}

TEST(SampleTokenTest, TopKAndTopPCutTheTail) {
  const std::vector<float> logits{1.0f, 0.0f, 2.0f, -1.0f};
  SamplingOptions two;
  two.temperature = 5;
  two.top_k = 2;
  SamplingOptions half;
  half.temperature = 1;
  half.top_p = 0.5;  // the likeliest has 0.64
  SamplingOptions most;
  most.temperature = 1;
  most.top_p = 0.7;
  std::vector<int> seen(4, 0);
  for (std::uint64_t i = 0; i < 500; ++i) {
    const TokenId a = sample_token(logits, two, i);
    EXPECT_TRUE(a == 0 || a == 2);
    EXPECT_EQ(sample_token(logits, half, i), 2);
    ++seen[static_cast<std::size_t>(sample_token(logits, most, i))];
  }
  EXPECT_GT(seen[0], 0);
  EXPECT_EQ(seen[1] + seen[3], 0);
}

TEST(SampleTokenTest, SeedsAndStepsNameTheDraw) {
  const std::vector<float> logits(64, 0.0f);
  SamplingOptions options;
  options.temperature = 1;
  options.seed = 7;
  const TokenId first = sample_token(logits, options, 3);
  EXPECT_EQ(sample_token(logits, options, 3), first);
  int different = 0;
  for (std::uint64_t step = 0; step < 20; ++step) different += sample_token(logits, options, step) != first;
  EXPECT_GT(different, 10);
}

}  // namespace
}  // namespace nibble
