// SPDX-License-Identifier: Apache-2.0
// The arithmetic of the judgement, on made-up logits; whole models are judged in tests/apps.
#include "evaluate/perplexity.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "base/json.h"
#include "base/rng.h"

namespace nibble {
namespace {

constexpr std::size_t kVocabulary = 37;

std::vector<float> random_logits(Rng& rng) {
  std::vector<float> logits(kVocabulary);
  for (float& logit : logits) logit = static_cast<float>(3 * rng.normal());
  return logits;
}

TEST(ScorePositionTest, UniformLogitsCostTheLogarithmOfTheVocabulary) {
  const std::vector<float> uniform(kVocabulary, -2.5f);
  const PositionScore score = score_position(uniform, uniform, 11);
  EXPECT_NEAR(score.nll_model, std::log(37.0), 1e-12);
  EXPECT_NEAR(score.kl, 0, 1e-12);
}

TEST(ScorePositionTest, DivergenceOfAModelFromItselfIsZeroAndNeverNegative) {
  Rng rng(4);
  for (int i = 0; i < 200; ++i) {
    const std::vector<float> p = random_logits(rng);
    const std::vector<float> q = random_logits(rng);
    const PositionScore same = score_position(p, p, 3);
    EXPECT_EQ(same.nll_base, same.nll_model);
    EXPECT_NEAR(same.kl, 0, 1e-13);
    EXPECT_TRUE(same.same_top1);
    EXPECT_GT(score_position(p, q, 3).kl, 0);
  }
}

TEST(ScorePositionTest, EqualsTheDefinition) {
  Rng rng(5);
  const std::vector<float> p = random_logits(rng);
  const std::vector<float> q = random_logits(rng);
  const auto softmax = [](const std::vector<float>& logits) {
    std::vector<double> probability;
    for (const float logit : logits) probability.push_back(std::exp(static_cast<double>(logit)));
    const double sum = std::accumulate(probability.begin(), probability.end(), 0.0);
    for (double& value : probability) value /= sum;
    return probability;
  };
  const std::vector<double> a = softmax(p);
  const std::vector<double> b = softmax(q);
  double kl = 0;
  for (std::size_t v = 0; v < kVocabulary; ++v) kl += a[v] * std::log(a[v] / b[v]);
  const PositionScore score = score_position(p, q, 7);
  EXPECT_NEAR(score.kl, kl, 1e-10);
  EXPECT_NEAR(score.nll_base, -std::log(a[7]), 1e-10);
  EXPECT_NEAR(score.nll_model, -std::log(b[7]), 1e-10);
}

TEST(SummarizeTest, PerplexityOfEqualWindowsIsThatOfAllTokens) {
  Rng rng(6);
  std::vector<Window> windows(5, Window{.ids = std::vector<TokenId>(9, 1), .first_prediction = 0});
  std::vector<double> nll(5 * 8);
  for (double& value : nll) value = rng.uniform() * 4;
  const Perplexity result = summarize(windows, nll, Convention::kGptq);
  EXPECT_NEAR(std::log(result.perplexity), std::accumulate(nll.begin(), nll.end(), 0.0) / 40, 1e-12);
  EXPECT_EQ(result.windows, 5);
  EXPECT_EQ(result.predictions, 40);
  std::rotate(nll.begin(), nll.begin() + 16, nll.end());  // other order of the windows
  EXPECT_NEAR(summarize(windows, nll, Convention::kGptq).perplexity, result.perplexity, 1e-12);
}

TEST(SummarizeTest, PerplexityRatioIsTheExponentialOfTheMeanDifference) {
  std::vector<PositionScore> scores;
  Rng rng(7);
  double difference = 0;
  for (int i = 0; i < 100; ++i) {
    scores.push_back(score_position(random_logits(rng), random_logits(rng), 5));
    difference += scores.back().nll_model - scores.back().nll_base;
  }
  const Divergence result = summarize(scores);
  EXPECT_NEAR(result.ppl_ratio, std::exp(difference / 100), 1e-9);
  EXPECT_LE(result.median_kl, result.kl_90);
  EXPECT_LE(result.kl_90, result.kl_99);
  EXPECT_LE(result.kl_99, result.max_kl);
}

class ModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<std::unique_ptr<Checkpoint>> opened =
        Checkpoint::open(std::string(NIBBLE_SOURCE_DIR) + "/data/models/stories260K");
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    checkpoint_ = std::move(opened).value();
    Rng rng(8);
    for (int i = 0; i < 6; ++i) {
      Window window;
      for (int t = 0; t < 64; ++t) window.ids.push_back(static_cast<TokenId>(rng.below(512)));
      windows_.push_back(window);
    }
  }
  Evaluation run(int threads, bool streamed, bool with_base) {
    ThreadPool pool(threads);
    const Context context{pool, sink_, stop_};
    const Transformer::Options options{.residency = streamed ? Residency::kStream : Residency::kWhole};
    auto model = Transformer::open(context, *checkpoint_, options);
    auto base = Transformer::open(context, *checkpoint_, options);
    EXPECT_TRUE(model.ok() && base.ok());
    const EvaluateOptions evaluate_options{.convention = Convention::kGptq, .all_at_once = streamed};
    auto result = evaluate(context, **model, with_base ? base->get() : nullptr, windows_, evaluate_options);
    EXPECT_TRUE(result.ok());
    return *result;
  }
  NullSink sink_;
  StopToken stop_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::vector<Window> windows_;
};

TEST_F(ModelTest, SameFigureForAnyThreadsAndResidency) {
  const double once = run(1, false, false).model.perplexity;
  EXPECT_EQ(run(2, false, false).model.perplexity, once);
  EXPECT_EQ(run(4, true, false).model.perplexity, once);
}

TEST_F(ModelTest, AModelBesideItselfLosesNothing) {
  for (const bool streamed : {false, true}) {
    const Evaluation result = run(2, streamed, true);
    ASSERT_TRUE(result.divergence.has_value());
    EXPECT_EQ(result.divergence->ppl_ratio, 1.0);
    EXPECT_EQ(result.divergence->same_top1, 1.0);
    EXPECT_NEAR(result.divergence->max_kl, 0, 1e-9);
    EXPECT_NEAR(std::log(result.model.perplexity), std::log(run(2, false, false).model.perplexity), 1e-6);
  }
}

}  // namespace
}  // namespace nibble
