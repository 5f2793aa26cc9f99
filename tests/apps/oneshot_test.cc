// SPDX-License-Identifier: Apache-2.0
// nibble oneshot, through the program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/run_program.h"
#include "base/hash.h"
#include "base/json.h"

namespace nibble::app_test {
namespace {

using testing::HasSubstr;

std::string hash_of(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  return sha256_hex(std::as_bytes(std::span(bytes)));
}

TEST(OneshotVerb, TheDryRunPromisesTheExactBytesThatTheRunWrites) {
  const Scratch scratch;
  const Json plan =
      json_of({"oneshot", kStories, "--scheme", "W4A16", "--group-size", "32", "--dry-run", "--json"});
  EXPECT_GT(plan["estimate"]["peak_memory_bytes"], 0);
  const Json report = json_of(
      {"oneshot", kStories, "--scheme", "W4A16", "--group-size", "32", "-o", scratch / "out", "--json"});
  EXPECT_EQ(plan["totals"]["output_bytes"], report["totals"]["output_bytes"]);
  EXPECT_EQ(std::filesystem::file_size(scratch / "out/model.safetensors"), report["totals"]["output_bytes"]);
  EXPECT_EQ(plan["modules"].size(), report["modules"].size());
  for (const char* name : {"config.json", "tokenizer.json", "recipe.yaml", "report.json", "README.md"}) {
    EXPECT_TRUE(std::filesystem::exists(scratch / "out" / name)) << name;
  }
}

TEST(OneshotVerb, WritesTheSameBytesForAnyNumberOfThreads) {
  const Scratch scratch;
  std::vector<std::string> hashes;
  for (const char* threads : {"1", "2", "4"}) {
    const std::string out = scratch / ("out" + std::string(threads));
    const Outcome outcome = run_nibble({"oneshot", kStories, "--scheme", "W4A16_ASYM", "--group-size", "32",
                                        "-o", out, "--threads", threads, "--quiet"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    hashes.push_back(hash_of(std::filesystem::path(out) / "model.safetensors"));
  }
  EXPECT_EQ(hashes[0], hashes[1]);
  EXPECT_EQ(hashes[0], hashes[2]);
}

TEST(OneshotVerb, TheWrittenRecipeRepeatsTheRun) {
  const Scratch scratch;
  ASSERT_EQ(
      run_nibble({"oneshot", kStories, "--scheme", "W8A16", "-o", scratch / "a", "--group-size", "-1"}).code,
      0);
  ASSERT_EQ(
      run_nibble({"oneshot", kStories, "--recipe", scratch / "a/recipe.yaml", "-o", scratch / "b"}).code, 0);
  EXPECT_EQ(hash_of(scratch / "a/model.safetensors"), hash_of(scratch / "b/model.safetensors"));
}

TEST(OneshotVerb, TheSummaryNamesTheWorstModules) {
  const Scratch scratch;
  const Outcome outcome =
      run_nibble({"oneshot", kStories, "--scheme", "W4A16", "--group-size", "32", "-o", scratch / "out"});
  EXPECT_THAT(outcome.out, HasSubstr("bits/weight"));
  EXPECT_THAT(outcome.out, HasSubstr("worst modules"));
  EXPECT_THAT(outcome.out, HasSubstr("saved in "));
  EXPECT_THAT(outcome.err, Not(HasSubstr("error")));
}

TEST(OneshotVerb, WithoutOutputDirNothingIsSavedAndThisIsSaid) {
  const Outcome outcome = run_nibble({"oneshot", kStories, "--scheme", "W8A16", "--group-size", "32"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.out, HasSubstr("nothing was saved"));
  EXPECT_EQ(json_of({"oneshot", kStories, "--scheme", "W8A16", "--group-size", "32", "--json"})["output_dir"],
            Json(nullptr));
}

TEST(OneshotVerb, AnEarlierOutputIsKeptUnlessOverwriteIsSaid) {
  const Scratch scratch;
  const std::vector<std::string> words{"oneshot",      kStories, "--scheme", "W8A16",
                                       "--group-size", "32",     "-o",       scratch / "out"};
  ASSERT_EQ(run_nibble(words).code, 0);
  const std::string before = hash_of(scratch / "out/report.json");
  const Outcome second = run_nibble(words);
  EXPECT_EQ(second.code, 73);
  EXPECT_THAT(second.err, HasSubstr("overwrite"));
  EXPECT_EQ(hash_of(scratch / "out/report.json"), before);
  std::vector<std::string> replacing = words;
  replacing.push_back("--overwrite");
  EXPECT_EQ(run_nibble(replacing).code, 0);
}

TEST(OneshotVerb, NegativeFlagsReachTheOptions) {
  const Scratch scratch;
  const Json report = json_of({"oneshot", kStories, "--scheme", "W8A16", "--group-size", "32",
                               "--no-save-compressed", "-o", scratch / "dense", "--json"});
  const Json tensors = json_of({"inspect", scratch / "dense", "--json"})["tensors"];
  EXPECT_THAT(tensors.dump(), Not(HasSubstr("weight_packed")));
  EXPECT_THAT(tensors.dump(), HasSubstr("q_proj.weight\""));
}

class OneshotRefuses : public testing::TestWithParam<Refusal> {};

TEST_P(OneshotRefuses, BeforeAnyWork) {
  const Scratch scratch;
  std::vector<std::string> words{"oneshot"};
  words.insert(words.end(), GetParam().words.begin(), GetParam().words.end());
  if (GetParam().code != 73) words.insert(words.end(), {"-o", scratch / "out"});
  const Outcome outcome = run_nibble(words);
  EXPECT_EQ(outcome.code, GetParam().code) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr(GetParam().message));
  EXPECT_EQ(outcome.out, "");
  EXPECT_FALSE(std::filesystem::exists(scratch / "out"));
}

INSTANTIATE_TEST_SUITE_P(
    Table, OneshotRefuses,
    testing::Values(
        Refusal{"NoRecipe", {kStories}, 2, "neither a recipe nor a scheme"},
        Refusal{"UnknownScheme", {kStories, "--scheme", "W4A61"}, 2, "W4A16"},
        Refusal{"UnknownMethod", {kStories, "--scheme", "W4A16", "--method", "gtpq"}, 2, "gptq"},
        Refusal{"UnknownFlag", {kStories, "--scheme", "W4A16", "--dataste", "x"}, 2, "--dataset"},
        Refusal{
            "UnknownPipeline", {kStories, "--scheme", "W4A16", "--pipeline", "sequental"}, 2, "sequential"},
        Refusal{"MissingModel", {"/no/such/model", "--scheme", "W4A16"}, 66, "/no/such/model"},
        Refusal{"MissingRecipe", {kStories, "--recipe", "/no/such/recipe.yaml"}, 66, "recipe.yaml"},
        Refusal{"PatternWithoutMatch", {kStories, "--scheme", "W4A16", "--ignore", "lm_haed"}, 2, "lm_head"},
        Refusal{"WrongSize", {kStories, "--scheme", "W4A16", "--max-shard-size", "5 apples"}, 2, "apples"},
        Refusal{"OutputUnderAFile", {kStories, "--scheme", "W4A16", "-o", "/dev/null/out"}, 73, "/dev/null"}),
    [](const auto& entry) { return entry.param.name; });

}  // namespace
}  // namespace nibble::app_test
