// SPDX-License-Identifier: Apache-2.0
// Ids and texts of the reference tokenizers (tests/golden/tokenizers), string by string, one test a
// tokenizer; and what must hold for each of them on any text.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "support/packed_tokenizer.h"

namespace nibble {
namespace {

using testing::golden_cases;
using testing::load_golden_tokenizer;
using Ids = std::vector<TokenId>;

class TokenizerGoldens : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    auto loaded = load_golden_tokenizer(GetParam());
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    tokenizer_ = std::move(loaded).value();
  }
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(TokenizerGoldens, EqualReference) {
  std::size_t checked = 0;
  for (const Json& line : golden_cases(GetParam())) {
    const auto text = line["text"].get<std::string>();
    const auto expect_ids = [&](const char* key, bool special) {
      if (!line.contains(key)) return;
      EXPECT_EQ(tokenizer_->encode(text, special).value(), line[key].get<Ids>())
          << key << " of " << line["text"];
      ++checked;
    };
    expect_ids("ids", false);
    expect_ids("ids_special", true);
    if (!line.contains("decoded")) continue;
    EXPECT_EQ(tokenizer_->decode(line["ids"].get<Ids>(), false).value(), line["decoded"].get<std::string>());
    const char* skipped = line.contains("decoded_skip_special") ? "decoded_skip_special" : "decoded";
    EXPECT_EQ(tokenizer_->decode(line["ids_special"].get<Ids>(), true).value(),
              line[skipped].get<std::string>());
  }
  EXPECT_GE(checked, 46u);
}

TEST_P(TokenizerGoldens, BatchesEqualSingleTextsForAnyThreads) {
  std::vector<std::string> texts;
  for (const Json& line : golden_cases(GetParam())) texts.push_back(line["text"].get<std::string>());
  std::vector<Ids> single;
  for (const std::string& text : texts) {
    single.push_back(tokenizer_->encode(text, true).value());
    EXPECT_EQ(tokenizer_->encode_with_offsets(text, true).value().ids, single.back()) << text;
  }
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    EXPECT_EQ(tokenizer_->encode_batch(pool, views, true).value(), single);
  }
}

// Quadratic work on these would take minutes.
TEST_P(TokenizerGoldens, LongTextsWithoutSpacesAreLinear) {
  constexpr std::size_t kSize = 1 << 17;
  const auto start = std::chrono::steady_clock::now();
  for (const std::string unit :
       {"a", "Zyxab", "1", " ", "\n", "\t \n", "\xCC\x81", "\xE6\xBC\xA2\xE5\xAD\x97", "\xFF", "'", "é!"}) {
    std::string text;
    while (text.size() < kSize) text += unit;
    const Result<Ids> ids = tokenizer_->encode(text + "x", false);
    ASSERT_TRUE(ids.ok()) << ids.error().message();
    EXPECT_TRUE(tokenizer_->decode(*ids, false).ok());
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

INSTANTIATE_TEST_SUITE_P(, TokenizerGoldens,
                         ::testing::Values("stories260K", "SmolLM2", "gpt2", "roberta-base", "opt",
                                           "gpt-neox-olmo", "phi-3-mini", "t5-small", "llama2", "mistral-v1",
                                           "llama3", "qwen2", "bert-base-cased", "bert-base-uncased",
                                           "gguf-bert-bge", "gguf-deepseek-coder", "gguf-falcon",
                                           "gguf-gpt-2", "gguf-llama-spm", "gguf-phi-3", "gguf-starcoder"),
                         [](const auto& tested) {
                           std::string name = tested.param;
                           for (char& c : name)
                             c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
                           return name;
                         });

TEST(TokenizerTest, SpecialIdsOfASmallModel) {
  const auto tokenizer = load_golden_tokenizer("stories260K").value();
  EXPECT_EQ(tokenizer->vocabulary_size(), 512);
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
}

}  // namespace
}  // namespace nibble
