// SPDX-License-Identifier: Apache-2.0
// docs/json.md names every key that --json prints.
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "apps/run_program.h"
#include "base/json.h"
#include "verb.h"

namespace nibble::app_test {
namespace {

// The part of the document below "## verb".
std::string section(const std::string& verb) {
  const std::string text = "\n" + read_file(source_path("docs/json.md"));
  const std::size_t begin = text.find("\n## " + verb + "\n");
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find("\n## ", begin + 1) - begin);
}

void collect_keys(const Json& value, std::set<std::string>& keys) {
  if (value.is_object()) {
    for (const auto& [key, member] : value.items()) {
      keys.insert(key);
      collect_keys(member, keys);
    }
  }
  if (value.is_array()) {
    for (const Json& item : value) collect_keys(item, keys);
  }
}

struct Run {
  const char* name;
  std::vector<std::string> words;
  std::set<std::string> free_keys;  // names that come from the data: their members are not looked at
};

void PrintTo(const Run& entry, std::ostream* out) {
  *out << entry.name;
}

class JsonDocs : public testing::TestWithParam<Run> {};

TEST_P(JsonDocs, NameEveryKey) {
  std::vector<std::string> words = GetParam().words;
  words.push_back("--json");
  const Outcome outcome = run_nibble(words);
  Result<Json> document = parse_json(outcome.out);
  ASSERT_TRUE(document.ok()) << outcome.out << outcome.err;
  for (const std::string& key : GetParam().free_keys) {
    if (document->is_object() && document->contains(key)) (*document)[key] = nullptr;
  }
  std::set<std::string> keys;
  collect_keys(*document, keys);
  const std::string text = section(words[0]);
  for (const std::string& key : keys) {
    EXPECT_NE(text.find("`" + key + "`"), std::string::npos)
        << "docs/json.md does not name " << key << " of " << words[0];
  }
}

INSTANTIATE_TEST_SUITE_P(
    Verbs, JsonDocs,
    testing::Values(
        Run{"Oneshot", {"oneshot", kStories, "--scheme", "W4A16", "--group-size", "32"}, {"phases", "files"}},
        Run{"Plan",
            {"oneshot", kStories, "--scheme", "W4A16", "--group-size", "32", "--dry-run"},
            {"phases", "files"}},
        Run{"Calibrated",
            {"oneshot", kStories, "--scheme", "W4A16", "--group-size", "32", "--method", "gptq", "--dataset",
             kTexts, "--num-calibration-samples", "2", "--max-seq-length", "32"},
            {"phases", "files"}},
        Run{"Eval",
            {"eval", kStories, "--against", kStories, "--text", kTexts, "--context", "32", "--max-windows",
             "2"},
            {}},
        Run{"Generate", {"generate", kStories, "--prompt", "Once", "-n", "2"}, {}},
        Run{"Tokenize", {"tokenize", kStories, "--text", "Once"}, {}},
        Run{"Inspect", {"inspect", kStories, "--histograms"}, {}},
        Run{"InspectTree", {"inspect", kStories, "--tree"}, {}},
        Run{"InspectFind", {"inspect", kStories, "--find", ".*q_proj"}, {}},
        Run{"InspectTensor", {"inspect", kStories, "--tensor", "model.norm.weight"}, {}},
        Run{"InspectSize", {"inspect", kStories, "--size-model", "nominal"}, {}},
        Run{"Verify", {"verify", kStories}, {"sha256"}},
        Run{"Diff", {"diff", kStories, source_path("tests/golden/models/llama")}, {}},
        Run{"RecipesShowScheme", {"recipes", "show", "W4A16"}, {"scheme", "recipe"}},
        Run{"RecipesShowMethod", {"recipes", "show", "gptq"}, {}},
        Run{"RecipesShowModifier", {"recipes", "show", "GPTQModifier"}, {}},
        Run{"RecipesList", {"recipes"}, {}}, Run{"Doctor", {"doctor"}, {"caches"}}),
    [](const auto& entry) { return entry.param.name; });

TEST(JsonDocs, NameEveryKeyOfReport) {
  const Scratch scratch;
  ASSERT_EQ(run_nibble({"oneshot", kStories, "--scheme", "W8A16", "-o", scratch / "out", "-q"}).code, 0);
  Json document = *parse_json(run_nibble({"report", scratch / "out", "--json"}).out);
  document.erase("totals");  // those of oneshot
  std::set<std::string> keys;
  collect_keys(document, keys);
  for (const std::string& key : keys)
    EXPECT_NE(section("report").find("`" + key + "`"), std::string::npos) << key;
}

TEST(JsonDocs, NameEveryKeyOfStatistics) {
  const Scratch scratch;
  const std::string file = scratch / "s.safetensors";
  ASSERT_EQ(run_nibble({"oneshot", kStories, "--scheme", "W4A16", "--group-size", "32", "--method", "gptq",
                        "--dataset", kTexts, "--num-calibration-samples", "2", "--max-seq-length", "32",
                        "--pipeline", "basic", "--save-statistics", file, "-q"})
                .code,
            0);
  std::set<std::string> keys;
  collect_keys(*parse_json(run_nibble({"statistics", "show", file, "--json"}).out), keys);
  EXPECT_TRUE(keys.contains("condition"));
  for (const std::string& key : keys)
    EXPECT_NE(section("statistics").find("`" + key + "`"), std::string::npos) << key;
  const Outcome same = run_nibble({"statistics", "merge", file, file, "-o", scratch / "m.safetensors"});
  EXPECT_EQ(same.code, 2);
  EXPECT_NE(same.err.find("the same tokens"), std::string::npos) << same.err;
  EXPECT_EQ(run_nibble({"statistics", "mrege", file, file}).code, 2);
}

TEST(JsonDocs, NameEveryKeyOfTheSparsityReport) {
  const std::string opt = source_path("tests/golden/models/opt");  // has biases and embeddings
  const Json document = *parse_json(run_nibble({"inspect", opt, "--sparsity", "--json"}).out);
  std::set<std::string> keys;
  for (const auto& [key, value] : document.items()) {
    if (key.starts_with("_")) keys.insert(key);
    Json row = value;  // patterns are named by themselves
    for (const char* free : {"quads", "patterns"}) {
      if (!row.is_object() || !row.contains(free)) continue;
      keys.insert(free);
      for (const auto& [pattern, counts] : row[free].items()) collect_keys(counts, keys);
      row.erase(free);
    }
    collect_keys(row, keys);
  }
  for (const std::string& key : keys)
    EXPECT_NE(section("inspect").find("`" + key + "`"), std::string::npos) << key;
}

TEST(JsonDocs, HaveASectionForEveryVerb) {
  for (const app::VerbEntry& entry : app::verbs()) EXPECT_NE(section(entry.name), "") << entry.name;
}

}  // namespace
}  // namespace nibble::app_test
