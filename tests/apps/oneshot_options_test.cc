// SPDX-License-Identifier: Apache-2.0
// No flag of nibble oneshot is taken and forgotten: each changes the output, or the plan, or says something.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "apps/run_program.h"
#include "base/json.h"
#include "program.h"
#include "verb.h"

namespace nibble::app_test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kLlama = source_path("tests/golden/models/llama");

const std::vector<std::string> kCalibrated{"--method",
                                           "gptq",
                                           "--dataset",
                                           source_path("data/texts/stories.jsonl"),
                                           "--num-calibration-samples",
                                           "6",
                                           "--max-seq-length",
                                           "48"};

// Everything a run leaves behind, without what differs from run to run.
std::string trace_of(const std::vector<std::string>& extra, bool calibrated = false) {
  const Scratch scratch;
  const fs::path out = scratch / "out";
  std::vector<std::string> words{"oneshot", kStories, "--scheme", "W4A16",     "--group-size",
                                 "32",      "--json", "-o",       out.string()};
  if (calibrated) words.insert(words.end(), kCalibrated.begin(), kCalibrated.end());
  words.insert(words.end(), extra.begin(), extra.end());
  const Outcome outcome = run_nibble(words);
  std::string trace = std::to_string(outcome.code) + outcome.err;
  if (Result<Json> document = parse_json(outcome.out); document.ok()) {
    document->erase("phases");
    document->erase("output_dir");
    for (const char* key : {"seconds", "peak_memory_bytes"}) {
      if (document->contains("totals")) (*document)["totals"].erase(key);
      if (document->contains("estimate")) (*document)["estimate"].erase(key);
    }
    if (document->contains("modules")) {
      for (Json& row : (*document)["modules"]) row.erase("seconds");
    }
    if (document->contains("files")) (*document)["files"].erase("report.json");
    trace += document->dump();
  }
  std::error_code status;
  std::map<std::string, std::string> files;
  for (fs::directory_iterator it(out, status), end; !status && it != end; it.increment(status)) {
    if (it->path().filename() != "report.json") files[it->path().filename()] = read_file(it->path());
  }
  for (const auto& [name, content] : files) trace += name + content;
  return trace;
}

// A value that is not the default, where "1" is none that the flag takes.
const std::map<std::string, std::string> kValues{
    {"--recipe", "x_stage: {}"},
    {"--recipe-args,--set", "a=1"},
    {"--scheme", "W8A16"},
    {"--ignore", "re:.*q_proj"},
    {"--output-dir", "/dev/null/elsewhere"},
    {"--max-shard-size", "100KB"},
    {"--data-collator", "padding"},
    {"--num-calibration-samples", "7"},
    {"--max-seq-length", "7"},
    {"--batch-size", "7"},
    {"--pipeline", "sequential"},
    {"--sequential-targets-per-subgraph", "2"},
    {"--sequential-offload-device", "disk"},
    {"--precision", "bf16"},
    {"--tokenizer", kLlama},
    {"--config-name", kLlama},
    {"--memory-budget", "1KB"},
    {"--group-size", "16"},
    {"--splits", "train[:3]"},
    {"--dataset-path", source_path("data/texts")},
};

std::vector<std::string> words_for(const app::FlagSpec& spec) {
  std::string name = spec.names.substr(spec.names.find("--"));
  if (name.starts_with("--[no-]")) {
    const std::string bare = name.substr(std::string("--[no-]").size());
    return {spec.default_text == "on" ? "--no-" + bare : "--" + bare};
  }
  const auto found = kValues.find(name);
  const std::string value = found == kValues.end() ? "1" : found->second;
  name = name.substr(0, name.find(','));
  if (spec.placeholder.empty()) return {name};
  return {name, value};
}

TEST(OneshotOptions, EveryFlagHasAnEffectOrAMessage) {
  app::Flags flags;
  const std::unique_ptr<app::Verb> verb = app::find_verb("oneshot")->make();
  verb->add_flags(flags);
  const std::string usual = trace_of({});
  ASSERT_EQ(usual, trace_of({})) << "two equal runs leave different traces";
  std::size_t tried = 0;
  for (const app::FlagSpec& spec : flags.specs()) {
    if (spec.positional || spec.names == "--overwrite") continue;  // shown in oneshot_test.cc
    const std::vector<std::string> words = words_for(spec);
    EXPECT_NE(trace_of(words), usual) << testing::PrintToString(words) << " does nothing and says nothing";
    ++tried;
  }
  EXPECT_GT(tried, 45u);
}

TEST(OneshotOptions, EveryFlagOfCalibrationHasAnEffectOrAMessage) {
  app::Flags flags;
  const std::unique_ptr<app::Verb> verb = app::find_verb("oneshot")->make();
  verb->add_flags(flags);
  const std::string usual = trace_of({}, true);
  ASSERT_EQ(usual, trace_of({}, true)) << "two equal runs leave different traces";
  std::size_t tried = 0;
  for (const app::FlagSpec& spec : flags.specs()) {
    if (!spec.group.starts_with("Calibration") && spec.names != "--seed") continue;
    const std::vector<std::string> words = words_for(spec);
    EXPECT_NE(trace_of(words, true), usual)
        << testing::PrintToString(words) << " does nothing and says nothing";
    ++tried;
  }
  EXPECT_GT(tried, 20u);
}

// A cache with two snapshots of one model.
class Hub : public testing::Test {
 protected:
  void SetUp() override {
    const fs::path model = scratch_ / "hub/models--org--pair";
    fs::create_directories(model / "snapshots");
    fs::create_directories(model / "refs");
    fs::create_directory_symlink(kStories, model / "snapshots/aaaa");
    fs::create_directory_symlink(kLlama, model / "snapshots/bbbb");
    write_file(model / "refs/main", "aaaa");
    write_file(model / "refs/v2", "bbbb");
  }

  Outcome plan(std::vector<std::string> extra) {
    std::vector<std::string> words{"oneshot", "--scheme",  "W8A16", "--group-size",
                                   "-1",      "--dry-run", "--json"};
    words.insert(words.begin() + 1, extra.begin(), extra.end());
    return run_nibble(words, {"HF_HUB_CACHE=" + (scratch_ / "hub").string()});
  }

  Scratch scratch_;
};

TEST_F(Hub, ModelRevisionSelectsTheSnapshot) {
  const Json main = document_of(plan({"org/pair"}));
  const Json other = document_of(plan({"org/pair", "--model-revision", "v2"}));
  EXPECT_EQ(main["modules"].size(), 35u);
  EXPECT_EQ(other["modules"], document_of(plan({kLlama}))["modules"]);
  EXPECT_NE(main["modules"], other["modules"]);
  EXPECT_EQ(document_of(plan({"org/pair", "--model-revision", "bbbb"}))["modules"], other["modules"]);
  EXPECT_EQ(document_of(plan({"org/pair@v2"}))["modules"], other["modules"]);
}

TEST_F(Hub, ARevisionThatIsNotThereIsAnErrorWithTheCommand) {
  const Outcome missing = plan({"org/pair", "--model-revision", "v9"});
  EXPECT_EQ(missing.code, 66);
  EXPECT_THAT(missing.err, HasSubstr("hf download org/pair --revision v9"));
  const Outcome two = plan({"org/pair@v2", "--model-revision", "v9"});
  EXPECT_EQ(two.code, 2);
  EXPECT_THAT(two.err, HasSubstr("model_revision"));
  EXPECT_THAT(plan({kStories, "--model-revision", "v2"}).err, HasSubstr("model_revision v2 has no effect"));
}

TEST_F(Hub, AConfigMayComeFromElsewhere) {
  Json config = *read_json_file(kStories + "/config.json");
  config["rope_theta"] = 12345.0;
  config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 12345.0}};
  write_file(scratch_ / "other/config.json", config.dump());
  const Outcome outcome = run_nibble({"oneshot", kStories, "--scheme", "W8A16", "--group-size", "-1", "-o",
                                      scratch_ / "out", "--config-name", scratch_ / "other"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ((*read_json_file(scratch_ / "out/config.json"))["rope_theta"], 12345.0);

  const Outcome wrong = plan({kStories, "--config-name", kLlama});
  EXPECT_EQ(wrong.code, 65);
  EXPECT_THAT(wrong.err, HasSubstr("lm_head.weight"));
  EXPECT_EQ(plan({kStories, "--config-name", "/no/such/folder"}).code, 66);
}

TEST_F(Hub, AProcessorBringsItsFiles) {
  write_file(scratch_ / "processor/preprocessor_config.json", "{\"size\": 224}");
  const Outcome outcome = run_nibble({"oneshot", kStories, "--scheme", "W8A16", "--group-size", "-1", "-o",
                                      scratch_ / "out", "--processor", scratch_ / "processor"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(read_file(scratch_ / "out/preprocessor_config.json"), "{\"size\": 224}");
  EXPECT_TRUE(fs::exists(scratch_ / "out/tokenizer.json"));  // the model's own

  for (const char* flag : {"--processor", "--tokenizer"}) {
    fs::create_directories(scratch_ / "empty");
    const Outcome empty = plan({kStories, flag, scratch_ / "empty"});
    EXPECT_EQ(empty.code, 66);
    EXPECT_THAT(empty.err, HasSubstr("holds none of"));
    EXPECT_EQ(plan({kStories, flag, "/no/such/folder"}).code, 66);
  }
}

}  // namespace
}  // namespace nibble::app_test
