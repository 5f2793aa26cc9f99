// SPDX-License-Identifier: Apache-2.0
// eval, generate, tokenize and logits, through the program, on the bundled trained model and the tiny golden
// models.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "apps/run_program.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "evaluate/perplexity.h"
#include "model/transformer.h"
#include "text/dataset.h"

namespace nibble::app_test {
namespace {

using testing::HasSubstr;

std::string golden_model(const std::string& name) {
  return source_path("tests/golden/models/" + name);
}

// The text that llama2.c pins for this model: 200 greedy steps from BOS.
constexpr const char* kPinnedStory =
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, "
    "she saw a "
    "big, red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to "
    "the "
    "park.\" Lily was sad and didn't know what to do. She said, \"I want to play with your ball, but I can't "
    "find "
    "it.\"\nLily was sad and didn't know what to do. She said, \"I'm sorry, Lily. I didn't know what to "
    "do.\"\nLily "
    "didn't want to help her mom, so she";

TEST(GenerateVerb, TellsThePinnedStory) {
  const Outcome outcome = run_nibble({"generate", kStories, "--prompt", "", "--max-new-tokens", "200"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, std::string(kPinnedStory) + "\n");
}

TEST(GenerateVerb, IsTheSameForAnyNumberOfThreadsAndForEqualSeeds) {
  std::vector<Json> greedy;
  std::vector<Json> sampled;
  for (const char* threads : {"1", "2", "4"}) {
    greedy.push_back(
        json_of({"generate", kStories, "--prompt", "Tom had a", "-n", "60", "--json", "-t", threads})["ids"]);
    sampled.push_back(
        json_of({"generate", kStories, "--prompt", "Tom had a", "-n", "60", "--json", "-t", threads,
                 "--temperature", "0.9", "--top-p", "0.9", "--top-k", "50", "--seed", "11"})["ids"]);
  }
  EXPECT_EQ(greedy[0], greedy[1]);
  EXPECT_EQ(greedy[0], greedy[2]);
  EXPECT_EQ(sampled[0], sampled[1]);
  EXPECT_EQ(sampled[0], sampled[2]);
  EXPECT_NE(sampled[0], greedy[0]);
  EXPECT_NE(sampled[0], json_of({"generate", kStories, "--prompt", "Tom had a", "-n", "60", "--json",
                                 "--temperature", "0.9", "--seed", "12"})["ids"]);
}

// Each of the first 200 stories alone: BOS and its ids, at most 512 tokens, every prediction counts once.
TEST(Perplexity, OfStoriesOneByOneIsTheReferenceValue) {
  const auto checkpoint = Checkpoint::open(kStories);
  ASSERT_TRUE(checkpoint.ok());
  const auto tokenizer = Tokenizer::from_folder(kStories);
  ASSERT_TRUE(tokenizer.ok());
  const auto documents = read_documents(kTexts, {}, 200);
  ASSERT_TRUE(documents.ok());
  ThreadPool pool;
  NullSink events;
  const StopToken stop;
  const Context context{pool, events, stop};
  const auto model = Transformer::open(context, **checkpoint);
  ASSERT_TRUE(model.ok()) << model.error().message();
  double nll = 0;
  std::int64_t predictions = 0;
  for (const Document& document : *documents) {
    std::vector<TokenId> ids = document_ids(**tokenizer, document).value();
    ids.resize(std::min<std::size_t>(ids.size(), 512));
    const std::vector<Window> windows{{.ids = std::move(ids)}};
    const auto result = evaluate(context, **model, nullptr, windows, {});
    ASSERT_TRUE(result.ok()) << result.error().message();
    nll += result->model.window_means[0] * static_cast<double>(windows[0].predictions());
    predictions += windows[0].predictions();
  }
  EXPECT_EQ(predictions, 79039);
  EXPECT_NEAR(std::exp(nll / static_cast<double>(predictions)), 4.393862, 2e-5);
}

TEST(EvalVerb, DocumentsWhatItMeasured) {
  const Json document =
      json_of({"eval", kStories, "--text", kTexts, "--context", "128", "--max-windows", "9", "--json"});
  EXPECT_NEAR(document["perplexity"].get<double>(), 4.4, 0.6);
  EXPECT_GT(document["standard_error"], 0.0);
  EXPECT_EQ(document["windows"], 9);
  EXPECT_EQ(document["context"], 128);
  EXPECT_EQ(document["tokens"], 9 * 128);
  EXPECT_EQ(document["predictions"], 9 * 127);
  EXPECT_EQ(document["convention"], "gptq");
  EXPECT_THAT(document["token_hash"].get<std::string>(), testing::MatchesRegex("[0-9a-f]{16}"));
}

TEST(EvalVerb, IsTheSameForAnyNumberOfThreads) {
  std::vector<double> values;
  for (const char* threads : {"1", "2", "4"}) {
    values.push_back(json_of({"eval", kStories, "--text", kTexts, "--context", "96", "--max-windows", "7",
                              "--json", "--threads", threads})["perplexity"]);
  }
  EXPECT_EQ(values[0], values[1]);
  EXPECT_EQ(values[0], values[2]);
}

TEST(EvalVerb, TheModelLimitIsTheDefaultContext) {
  const Json gptq = json_of({"eval", kStories, "--text", kTexts, "--max-windows", "1", "--json"});
  EXPECT_EQ(gptq["context"], 512);  // the model's limit, below 2048
  const Json llama_cpp = json_of(
      {"eval", kStories, "--text", kTexts, "--max-windows", "2", "--convention", "llama.cpp", "--json"});
  EXPECT_EQ(llama_cpp["context"], 512);
  EXPECT_LT(llama_cpp["predictions"], gptq["predictions"].get<int>() * 2);
  EXPECT_EQ(llama_cpp["convention"], "llama.cpp");
}

TEST(EvalVerb, AModelAgainstItselfLosesNothing) {
  const Json document = json_of({"eval", kStories, "--against", kStories, "--text", kTexts, "--context", "64",
                                 "--max-windows", "5", "--json"});
  EXPECT_NEAR(document["mean_kl"].get<double>(), 0, 1e-12);
  EXPECT_NEAR(document["kl_99"].get<double>(), 0, 1e-12);
  EXPECT_EQ(document["same_top1"], 1.0);
  EXPECT_EQ(document["ppl_ratio"], 1.0);
  EXPECT_EQ(document["base"]["perplexity"], document["perplexity"]);
}

TEST(EvalVerb, ACompressedModelIsJudgedBesideItsBase) {
  const Scratch scratch;
  ASSERT_EQ(
      run_nibble({"oneshot", kStories, "--scheme", "W4A16", "--group-size", "32", "-o", scratch / "w4"}).code,
      0);
  ASSERT_EQ(
      run_nibble({"oneshot", kStories, "--scheme", "W8A16", "--group-size", "32", "-o", scratch / "w8"}).code,
      0);
  const auto judge = [&](const std::string& model) {
    return json_of({"eval", scratch / model, "--against", kStories, "--text", kTexts, "--context", "128",
                    "--max-windows", "20", "--json"});
  };
  const Json w4 = judge("w4");
  const Json w8 = judge("w8");
  EXPECT_GT(w4["ppl_ratio"], 1.01);
  EXPECT_LT(w4["ppl_ratio"], 1.3);
  EXPECT_NEAR(w8["ppl_ratio"].get<double>(), 1, 0.002);
  EXPECT_GT(w4["mean_kl"], 10 * w8["mean_kl"].get<double>());
  EXPECT_GT(w8["mean_kl"], 0.0);
  EXPECT_LT(w4["same_top1"], w8["same_top1"]);
  EXPECT_EQ(w4["base"], w8["base"]);
}

TEST(EvalVerb, AWrittenModelTellsAStory) {
  const Scratch scratch;
  ASSERT_EQ(
      run_nibble({"oneshot", kStories, "--scheme", "W8A16", "--group-size", "32", "-o", scratch / "w8"}).code,
      0);
  const Outcome outcome =
      run_nibble({"generate", scratch / "w8", "--prompt", "Once upon a time", "-n", "40"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, testing::StartsWith("Once upon a time, there was a little"));
}

struct GoldenModel {
  const char* name;
  const char* tensor;
};

void PrintTo(const GoldenModel& model, std::ostream* out) {
  *out << model.name;
}

class LogitsVerb : public testing::TestWithParam<GoldenModel> {};

TEST_P(LogitsVerb, WritesTheLogitsOfTransformers) {
  const Scratch scratch;
  const std::string folder = golden_model(GetParam().name);
  const std::string out = scratch / "out.safetensors";
  const Outcome outcome =
      run_nibble({"logits", folder, "--ids", folder + "/golden.safetensors", "--output", out});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto written = Checkpoint::open(out);
  const auto golden = Checkpoint::open(folder + "/golden.safetensors");
  ASSERT_TRUE(written.ok() && golden.ok());
  const Tensor ours = *(*written)->load(GetParam().tensor);
  const Tensor theirs = *(*golden)->load(GetParam().tensor);
  ASSERT_EQ(ours.dtype(), DType::kF32);
  ASSERT_EQ(ours.shape(), theirs.shape());
  float largest = 0;
  float difference = 0;
  for (std::size_t i = 0; i < ours.to_f32().size(); ++i) {
    largest = std::max(largest, std::abs(theirs.as<float>()[i]));
    difference = std::max(difference, std::abs(ours.as<float>()[i] - theirs.as<float>()[i]));
  }
  EXPECT_LE(difference, 1e-4f * largest);
}

INSTANTIATE_TEST_SUITE_P(Models, LogitsVerb,
                         testing::Values(GoldenModel{"llama", "logits"}, GoldenModel{"qwen3_moe", "logits"},
                                         GoldenModel{"gpt2", "logits"},
                                         GoldenModel{"bert-qa", "start_logits"},
                                         GoldenModel{"bert-seqcls", "logits"}),
                         [](const auto& entry) {
                           std::string name = entry.param.name;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(TokenizeVerb, GoesBackAndForth) {
  const Json ids = json_of({"tokenize", kStories, "--text", "Once upon a time, Zoë ate 3 cakes.", "--json"});
  std::string words;
  for (const Json& id : ids.back()) words += id.dump() + " ";
  const Outcome back = run_nibble({"tokenize", kStories, "--decode", "--no-special-tokens", "--text", words});
  EXPECT_EQ(back.code, 0) << back.err;
  EXPECT_EQ(back.out, "Once upon a time, Zoë ate 3 cakes.\n");
}

class ModelVerbRefuses : public testing::TestWithParam<Refusal> {};

TEST_P(ModelVerbRefuses, WithAClearErrorAndItsExitCode) {
  const Outcome outcome = run_nibble(GetParam().words);
  EXPECT_EQ(outcome.code, GetParam().code) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr(GetParam().message));
  EXPECT_EQ(outcome.out, "");
}

const std::string kBroken = source_path("tests/golden/malformed/gguf/bad-magic.gguf");

INSTANTIATE_TEST_SUITE_P(
    Table, ModelVerbRefuses,
    testing::Values(
        Refusal{"EvalWithoutText", {"eval", kStories}, 2, "--text"},
        Refusal{"EvalOfMissingText", {"eval", kStories, "--text", "/no/such/text"}, 66, "/no/such/text"},
        Refusal{"EvalOfMissingModel", {"eval", "/no/such/model", "--text", kTexts}, 66, "/no/such/model"},
        Refusal{"EvalOfDamagedModel", {"eval", kBroken, "--text", kTexts}, 65, "bad-magic.gguf"},
        Refusal{"EvalOfAnEncoder", {"eval", golden_model("bert-qa"), "--text", kTexts}, 2, "head"},
        Refusal{"EvalBeyondTheLimit", {"eval", kStories, "--text", kTexts, "--context", "1024"}, 2, "512"},
        Refusal{"EvalOfAnEmptyText", {"eval", kStories, "--text", "/dev/null"}, 65, "/dev/null"},
        Refusal{
            "EvalWithoutIds", {"eval", kStories, "--text", kStories + "/model.safetensors"}, 65, "input_ids"},
        Refusal{"WrongConvention",
                {"eval", kStories, "--text", kTexts, "--convention", "llamacpp"},
                2,
                "llama.cpp"},
        Refusal{"GenerateTooHot",
                {"generate", kStories, "--prompt", "a", "--temperature", "-1"},
                2,
                "--temperature"},
        Refusal{"GenerateWithoutTokenizer",
                {"generate", golden_model("bert-qa"), "--prompt", "a"},
                66,
                "tokenizer"},
        Refusal{"LogitsWithoutIds", {"logits", kStories, "--output", "/tmp/x.safetensors"}, 2, "--ids"},
        Refusal{"LogitsOfMissingIds",
                {"logits", kStories, "--ids", "/no/ids.safetensors", "--output", "/tmp/x"},
                66,
                "/no/ids"},
        Refusal{"TokenizeNothing", {"tokenize", kStories}, 2, "--text"},
        Refusal{"TokenizeDecodesNoNumber", {"tokenize", kStories, "--decode", "--text", "4 five"}, 2, "five"},
        Refusal{"TokenizeDecodesBeyondTheVocabulary",
                {"tokenize", kStories, "--decode", "--text", "512"},
                2,
                "511"},
        Refusal{"TokenizeOfMissingColumn",
                {"tokenize", kStories, "--jsonl", kTexts, "--column", "body"},
                65,
                "body"}),
    [](const auto& entry) { return entry.param.name; });

}  // namespace
}  // namespace nibble::app_test
