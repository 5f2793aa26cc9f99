// SPDX-License-Identifier: Apache-2.0
// Wrong uses, as an impatient person makes them: each ends with its exit code and a message that says what is
// wrong and how to mend it, and leaves nothing half-written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstring>

#include "apps/run_program.h"
#include "base/json.h"

namespace nibble::app_test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

void copy_model(const fs::path& to) {
  fs::copy(kStories, to);
}

void copy_with_config(const fs::path& to, const Json& changes) {
  copy_model(to);
  Json config = *read_json_file(to / "config.json");
  for (const auto& [key, value] : changes.items()) {
    value.is_null() ? static_cast<void>(config.erase(key)) : static_cast<void>(config[key] = value);
  }
  write_file(to / "config.json", config.dump());
}

// One value of a middle layer is not a number.
void copy_with_nan(const fs::path& to) {
  copy_model(to);
  std::string bytes = read_file(to / "model.safetensors");
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  const Json table = *parse_json(std::string_view(bytes).substr(8, header));
  const std::uint64_t at = table["model.layers.2.mlp.up_proj.weight"]["data_offsets"][0];
  bytes.replace(8 + header + at + 400, 4, "\xff\xff\xff\x7f");
  write_file(to / "model.safetensors", bytes);
}

// The broken things that the cases below name.
void furnish(const fs::path& place) {
  fs::create_directories(place / "empty");
  write_file(place / "exists/x", "");
  write_file(place / "afile", "x");
  write_file(place / "key.yaml", "s_stage:\n  q_modifiers:\n    QuantizationModifier:\n      schem: W4A16\n");
  write_file(place / "broken.yaml", "s_stage:\n  q_modifiers:\n   QuantizationModifier: [\n");
  write_file(place / "modifier.yaml",
             "s_stage:\n  q_modifiers:\n    QuantisationModifier: {scheme: W4A16}\n");
  write_file(
      place / "target.yaml",
      "s_stage:\n  q_modifiers:\n    QuantizationModifier: {scheme: W4A16, targets: ['re:.*q_prj']}\n");
  write_file(place / "void.yaml", "");
  write_file(place / "void.jsonl", "");
  write_file(place / "void.txt", "");
  write_file(place / "column.jsonl", "{\"txt\": \"a\"}\n");
  write_file(place / "bad.jsonl", "{\"text\": \"a\"\n");
  write_file(place / "binary.txt", std::string("\x7f"
                                               "ELF\0\0\0",
                                               7));
  copy_model(place / "src");
  copy_with_nan(place / "nan");
  copy_model(place / "cut");
  fs::resize_file(place / "cut/model.safetensors", 1'000'000);
  copy_with_config(place / "lama", {{"model_type", "lama"}, {"architectures", nullptr}});
  copy_with_config(place / "untyped", {{"model_type", nullptr}, {"architectures", nullptr}});
  copy_with_config(place / "wide", {{"hidden_size", 65}});
  copy_with_config(place / "text_size", {{"hidden_size", "64"}});
  copy_with_config(place / "headless", {{"num_attention_heads", 0}});
  copy_model(place / "no_config");
  fs::remove(place / "no_config/config.json");
  copy_model(place / "bad_config");
  write_file(place / "bad_config/config.json", "{\"a\": ");
  copy_model(place / "wordless");
  for (const char* file : {"tokenizer.json", "tokenizer_config.json"}) fs::remove(place / "wordless" / file);
  write_file(place / "pickle/config.json", "{}");
  write_file(place / "pickle/pytorch_model.bin", "x");
}

struct WrongUse {
  const char* name;
  std::string words;  // M: the bundled model, P: a place with the things above, T: texts
  int code;
  std::vector<std::string> says;
};
void PrintTo(const WrongUse& use, std::ostream* out) {
  *out << use.name;
}

std::vector<std::string> arguments(const std::string& words, const fs::path& place) {
  std::vector<std::string> list;
  std::istringstream in(words);
  for (std::string word; in >> word;) {
    if (word == "M") word = kStories;
    if (word == "T") word = kTexts;
    if (word == "P" || word.starts_with("P/")) word = place.string() + word.substr(1);
    list.push_back(word);
  }
  return list;
}

class WrongUses : public testing::TestWithParam<WrongUse> {
 protected:
  static void SetUpTestSuite() {
    scratch_ = new Scratch();
    furnish(*scratch_ / "");
  }
  static void TearDownTestSuite() { delete scratch_; }
  static inline Scratch* scratch_ = nullptr;
};

std::vector<std::string> names_below(const fs::path& place) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(place)) names.push_back(entry.path());
  std::sort(names.begin(), names.end());
  return names;
}

TEST_P(WrongUses, EndsWithAMessageAndLeavesNothing) {
  const fs::path place = *scratch_ / "";
  const std::vector<std::string> before = names_below(place);
  const Outcome outcome = run_nibble(arguments(GetParam().words, place));
  EXPECT_EQ(outcome.code, GetParam().code) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, HasSubstr("error: "));
  for (const std::string& text : GetParam().says) EXPECT_THAT(outcome.err, HasSubstr(text));
  EXPECT_EQ(names_below(place), before);
}

#define W4 "--scheme W4A16 --group-size 32 -o P/out"
#define GPTQ "oneshot M --method gptq " W4 " --num-calibration-samples 4 --max-seq-length 32"

INSTANTIATE_TEST_SUITE_P(
    Table, WrongUses,
    testing::Values(
        // The model.
        WrongUse{"NoArgument", "oneshot", 2, {"MODEL is missing"}},
        WrongUse{"MissingPath", "oneshot /no/such " W4, 66, {"/no/such does not exist", "hint: a model is"}},
        WrongUse{"MisspeltPath", "oneshot P/scr " W4, 66, {"does not exist", "did you mean", "/src"}},
        WrongUse{
            "ConfigInsteadOfModel", "oneshot P/src/config.json " W4, 65, {"is no model", "give the folder"}},
        WrongUse{"EmptyFolder", "oneshot P/empty " W4, 66, {"no weights", "the folder is empty"}},
        WrongUse{"NotInTheCache", "oneshot org/name " W4, 66, {"hf download org/name"}},
        WrongUse{"OnlyPickle", "oneshot P/pickle " W4, 65, {"pickle", "save_pretrained"}},
        WrongUse{"CutShort", "oneshot P/cut " W4, 65, {"model.safetensors", "cut short"}},
        WrongUse{"NanForRounding", "oneshot P/nan " W4, 65, {"model.layers.2.mlp.up_proj", "not finite"}},
        WrongUse{
            "NanForEval", "eval P/nan --text T --context 32 --max-windows 1", 65, {"layers.2.mlp.up_proj"}},
        WrongUse{"UnknownModelType", "oneshot P/lama " W4, 65, {"\"lama\"", "did you mean llama?"}},
        WrongUse{"NoModelType", "oneshot P/untyped " W4, 65, {"neither model_type nor architectures"}},
        WrongUse{"NoConfig", "oneshot P/no_config " W4, 66, {"no config.json", "give the folder"}},
        WrongUse{"BrokenConfig", "oneshot P/bad_config " W4, 65, {"config.json", "line 1"}},
        WrongUse{"WrongWidth", "oneshot P/wide " W4, 65, {"[512, 64]", "[512, 65]"}},
        WrongUse{"TextForANumber", "oneshot P/text_size " W4, 65, {"hidden_size is \"64\"", "whole number"}},
        WrongUse{"NoHeads", "oneshot P/headless " W4, 65, {"num_attention_heads is 0"}},
        // The output.
        WrongUse{
            "OutputIsInput", "oneshot P/src --scheme W8A16 -o P/src --overwrite", 2, {"replace the source"}},
        WrongUse{
            "OutputHoldsInput", "oneshot P/src --scheme W8A16 -o P --overwrite", 2, {"replace the source"}},
        WrongUse{"OutputExists", "oneshot M --scheme W8A16 -o P/exists", 73, {"exists already", "overwrite"}},
        WrongUse{"NotAModelToReplace",
                 "oneshot M --scheme W8A16 -o P/exists --overwrite",
                 73,
                 {"no model folder"}},
        WrongUse{"OutputIsAFile", "oneshot M --scheme W8A16 -o P/afile", 73, {"is a file, not a folder"}},
        WrongUse{"OutputInAFile", "oneshot M --scheme W8A16 -o P/afile/out", 73, {"afile", "choose another"}},
        // The recipe.
        WrongUse{"NoRecipe", "oneshot M -o P/out", 2, {"neither a recipe nor a scheme"}},
        WrongUse{"RecipeAndScheme", "oneshot M -r P/key.yaml " W4, 2, {"both a recipe and a scheme"}},
        WrongUse{"RecipeMissing", "oneshot M -r P/nope.yaml -o P/out", 66, {"no recipe file"}},
        WrongUse{"RecipeIsAFolder", "oneshot M -r P/empty -o P/out", 2, {"is a folder"}},
        WrongUse{"RecipeEmpty", "oneshot M -r P/void.yaml -o P/out", 2, {"map of stages"}},
        WrongUse{"RecipeBroken", "oneshot M -r P/broken.yaml -o P/out", 65, {"broken.yaml", "line 4"}},
        WrongUse{"RecipeKey",
                 "oneshot M -r P/key.yaml -o P/out",
                 2,
                 {"\"schem\"", "line 4", "did you mean scheme"}},
        WrongUse{"RecipeModifier",
                 "oneshot M -r P/modifier.yaml -o P/out",
                 2,
                 {"did you mean QuantizationModifier?"}},
        WrongUse{"TargetMatchesNothing",
                 "oneshot M -r P/target.yaml -o P/out",
                 2,
                 {"re:.*q_prj", "matches no module"}},
        WrongUse{"WrongScheme", "oneshot M --scheme W4A61 -o P/out", 2, {"did you mean W4A16"}},
        WrongUse{"WrongMethod", "oneshot M --method gtpq " W4, 2, {"did you mean gptq?"}},
        WrongUse{"SchemeFlagBesideRecipe",
                 "oneshot M -r P/target.yaml --method gptq -o P/out",
                 2,
                 {"method", "write it into the recipe"}},
        WrongUse{"RecipeFlagBesideScheme", "oneshot M --stage s " W4, 2, {"stage belongs to a recipe"}},
        WrongUse{"WrongSize", "oneshot M --max-shard-size 5apples " W4, 2, {"\"5apples\" is no size", "5GB"}},
        // The data.
        WrongUse{"NoData", "oneshot M --method gptq " W4, 2, {"needs calibration data", "give a dataset"}},
        WrongUse{"DataMissing", GPTQ " -d P/nope.jsonl", 66, {"nope.jsonl", "downloads nothing"}},
        WrongUse{"DataEmpty", GPTQ " -d P/void.jsonl", 65, {"no calibration sample"}},
        WrongUse{"DataColumn", GPTQ " -d P/column.jsonl", 65, {"no column \"text\"", "did you mean txt?"}},
        WrongUse{"DataBroken", GPTQ " -d P/bad.jsonl", 65, {"bad.jsonl", "invalid JSON"}},
        WrongUse{"DataBinary", GPTQ " -d P/binary.txt", 65, {"NUL bytes", "UTF-8"}},
        WrongUse{"TargetOfSequence",
                 GPTQ " -d T --sequential-targets LlamaDecoderLaye",
                 2,
                 {"did you mean LlamaDecoderLayer?"}},
        // Other verbs.
        WrongUse{"EvalWithoutText", "eval M", 2, {"--text is missing"}},
        WrongUse{"EvalTextMissing", "eval M --text P/nope.txt", 66, {"nope.txt"}},
        WrongUse{"EvalTextEmpty", "eval M --text P/void.txt", 65, {"at least 2", "longer text"}},
        WrongUse{"EvalBeyondTheModel", "eval M --text T --context 100000", 2, {"limit of 512"}},
        WrongUse{
            "EvalWithoutTokenizer", "eval P/wordless --text T", 66, {"holds no tokenizer", "tokenizer.json"}},
        WrongUse{"EvalAgainstMissing", "eval M --text T --against P/../none", 66, {"none"}},
        WrongUse{
            "InspectTensor", "inspect M --tensor model.nrm.weight", 2, {"did you mean model.norm.weight?"}},
        WrongUse{"DiffOfOne", "diff M", 2, {"the argument B is missing"}},
        WrongUse{"VerifyMissing", "verify P/nope", 66, {"does not exist"}},
        WrongUse{"ReportOfNothing", "report P/empty", 66, {"no report.json"}},
        WrongUse{"TokenizeNothing", "tokenize M", 2, {"--text, --file and --jsonl"}},
        WrongUse{"TokenizeWrongId", "tokenize M --decode --text 999999", 2, {"allowed are 0 to 511"}},
        WrongUse{"LogitsWithoutIds",
                 "logits M --ids P/src/model.safetensors -o P/l.safetensors",
                 65,
                 {"input_ids"}},
        WrongUse{"RecipesOfNothing", "recipes show W4A61", 2, {"did you mean W4A16"}}),
    [](const auto& entry) { return entry.param.name; });

// A disk that fills up: the limit on file sizes stands in for it.
TEST(WrongUse, AFileThatMayNotGrowIsAnErrorAndLeavesNothing) {
  const Scratch scratch;
  rlimit usual{};
  getrlimit(RLIMIT_FSIZE, &usual);
  rlimit small = usual;
  small.rlim_cur = 100'000;
  setrlimit(RLIMIT_FSIZE, &small);
  const Outcome outcome =
      run_nibble({"oneshot", kStories, "--scheme", "W4A16", "--group-size", "32", "-o", scratch / "out"});
  setrlimit(RLIMIT_FSIZE, &usual);
  EXPECT_EQ(outcome.code, 73) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("ulimit -f"));
  EXPECT_THAT(names_below(scratch / ""), testing::IsEmpty());
}

// What is finished is worth keeping, whatever ended the run.
TEST(WrongUse, FinishedBlocksOutliveAFailure) {
  const Scratch scratch;
  copy_with_nan(scratch / "nan");
  const Outcome outcome = run_nibble({"oneshot", scratch / "nan", "--scheme", "W4A16", "--group-size", "32",
                                      "--method", "gptq", "-d", kTexts, "--num-calibration-samples", "4",
                                      "--max-seq-length", "32", "-o", scratch / "out"});
  EXPECT_EQ(outcome.code, 65) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("model.layers.2.mlp.up_proj"));
  EXPECT_THAT(outcome.err, HasSubstr("--resume"));
  EXPECT_FALSE(fs::exists(scratch / "out"));
  EXPECT_TRUE(fs::exists(scratch / "out.partial"));
}

TEST(WrongUse, AFolderWithoutWritePermissionIsFoundBeforeTheWork) {
  if (geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
  const Scratch scratch;
  fs::create_directories(scratch / "closed");
  chmod((scratch / "closed").c_str(), 0555);
  const Outcome outcome =
      run_nibble({"oneshot", kStories, "--scheme", "W8A16", "-o", scratch / "closed/out"});
  chmod((scratch / "closed").c_str(), 0755);
  EXPECT_EQ(outcome.code, 73);
  EXPECT_THAT(outcome.err, HasSubstr("no permission"));
}

TEST(WrongUse, TextThatIsNotUtf8IsReadAndThisIsSaid) {
  const Scratch scratch;
  write_file(scratch / "latin.txt", "caf\xe9 und noch viel mehr Text als das");
  const Outcome outcome = run_nibble({"eval", kStories, "--text", scratch / "latin.txt", "--context", "8"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.err, HasSubstr("not UTF-8"));
}

}  // namespace
}  // namespace nibble::app_test
