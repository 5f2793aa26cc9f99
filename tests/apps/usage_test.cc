// SPDX-License-Identifier: Apache-2.0
// What a person meets first: help, version, wrong words, settings, log files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/run_program.h"
#include "base/json.h"
#include "verb.h"

namespace nibble::app_test {
namespace {

using testing::HasSubstr;

struct UsageCase {
  std::string name;
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
  int code;
  std::string message;  // part of stderr
};
void PrintTo(const UsageCase& entry, std::ostream* out) {
  *out << entry.name;
}

class UsageError : public testing::TestWithParam<UsageCase> {};

TEST_P(UsageError, SaysWhatIsWrongAndExitsWithItsCode) {
  const Outcome outcome = run_nibble(GetParam().arguments, GetParam().environment);
  EXPECT_EQ(outcome.code, GetParam().code);
  EXPECT_THAT(outcome.err, HasSubstr(GetParam().message));
  EXPECT_EQ(outcome.out, "");
}

INSTANTIATE_TEST_SUITE_P(
    Table, UsageError,
    testing::Values(
        UsageCase{"NoVerb", {}, {}, 2, "Usage: nibble VERB"},
        UsageCase{"UnknownVerb", {"doctr"}, {}, 2, "did you mean doctor?"},
        UsageCase{"UnknownVerbFarFromAll", {"xyzzyplugh"}, {}, 2, "the verbs are"},
        UsageCase{"VerbOfOtherTools", {"quantize"}, {}, 2, "did you mean oneshot?"},
        UsageCase{"ModelWithoutVerb", {"/tmp"}, {}, 2, "the verb comes first"},
        UsageCase{"UnknownVerbOfHelp", {"help", "oneshit"}, {}, 2, "did you mean oneshot?"},
        UsageCase{"UnknownFlag", {"doctor", "--thread", "1"}, {}, 2, "did you mean --threads?"},
        UsageCase{"UnknownFlagWithValue", {"doctor", "--jsn=1"}, {}, 2, "no flag --jsn"},
        UsageCase{"ExtraArgument", {"doctor", "now"}, {}, 2, "\"now\""},
        UsageCase{"NotANumber", {"doctor", "--threads", "two"}, {}, 2, "--threads is \"two\""},
        UsageCase{"NumberOutOfRange", {"doctor", "--threads=-1"}, {}, 2, "from 0 to 4096"},
        UsageCase{"WrongChoice", {"doctor", "--log-format", "jso"}, {}, 2, "did you mean json?"},
        UsageCase{"OnlyFlags", {"--threads", "1"}, {}, 2, "no verb given"},
        UsageCase{"WrongThreadsInEnvironment",
                  {"doctor"},
                  {"NIBBLE_THREADS=many"},
                  2,
                  "NIBBLE_THREADS is \"many\""},
        UsageCase{
            "WrongLevelInEnvironment", {"doctor"}, {"NIBBLE_CPU_LEVEL=sse9"}, 2, "this machine has portable"},
        UsageCase{"WrongLevel", {"doctor", "--cpu-level", "avx1024"}, {}, 2, "--cpu-level is \"avx1024\""},
        UsageCase{"LogCannotBeWritten", {"doctor"}, {"NIBBLE_LOG_FILE=/dev/null/log"}, 73, "log file"}),
    [](const auto& entry) { return entry.param.name; });

TEST(Usage, HelpOfEveryVerbStartsWithExamples) {
  const Outcome overview = run_nibble({"--help"});
  EXPECT_EQ(overview.code, 0);
  for (const app::VerbEntry& entry : app::verbs()) {
    EXPECT_THAT(overview.out, HasSubstr("\n  " + entry.name + " "));
    const Outcome outcome = run_nibble({entry.name, "--help"});
    EXPECT_EQ(outcome.code, 0) << entry.name;
    EXPECT_EQ(outcome.err, "") << entry.name;
    const std::size_t examples = outcome.out.find("Examples:");
    EXPECT_LT(examples, outcome.out.find("Usage: nibble " + entry.name)) << entry.name;
    EXPECT_THAT(outcome.out, HasSubstr("--json")) << entry.name;
    EXPECT_EQ(run_nibble({"help", entry.name}).out, outcome.out);
  }
}

// Words of the reference's arguments, with their underscores.
TEST(Usage, UnderscoresInFlagsAreDashes) {
  const Outcome outcome = run_nibble({"doctor", "--quick", "--cpu_level=portable", "--log_format", "json"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("portable in use"));
}

TEST(Usage, QuietLeavesOnlyErrors) {
  const std::string model = source_path("data/models/stories260K");
  const std::string text = source_path("data/texts/stories.jsonl");
  const Scratch scratch;
  const std::string out = scratch / "out";
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"oneshot", model, "--scheme", "W8A16", "--group-size", "-1", "-o", out},
           {"oneshot", model, "--scheme", "W8A16", "--group-size", "-1", "--dry-run"},
           {"eval", model, "--text", text, "--context", "32", "--max-windows", "1"},
           {"generate", model, "--prompt", "Once", "-n", "2"},
           {"tokenize", model, "--text", "Once"},
           {"inspect", model},
           {"verify", out},
           {"diff", model, model},
           {"report", out},
           {"recipes"},
           {"doctor", "--quick"}}) {
    std::vector<std::string> quiet = words;
    quiet.emplace_back("--quiet");
    const Outcome outcome = run_nibble(quiet);
    EXPECT_EQ(outcome.code, 0) << words[0];
    EXPECT_EQ(outcome.out + outcome.err, "") << words[0];
    if (words[0] == "oneshot") continue;
    quiet.emplace_back("--json");
    EXPECT_TRUE(parse_json(run_nibble(quiet).out).ok()) << words[0];
  }
  const Outcome wrong = run_nibble({"verify", "/no/such/model", "--quiet"});
  EXPECT_EQ(wrong.code, 66);
  EXPECT_THAT(wrong.err, HasSubstr("/no/such/model"));
}

TEST(Usage, TheManualNamesEveryVerbAndFlag) {
  const std::string page = run_nibble({"help", "--man"}).out;
  EXPECT_TRUE(page.starts_with(".TH NIBBLE 1"));
  for (const app::VerbEntry& entry : app::verbs()) {
    EXPECT_THAT(page, HasSubstr(".SS \"nibble " + entry.name + " "));
    app::Flags flags;
    const std::unique_ptr<app::Verb> verb = entry.make();
    verb->add_flags(flags);
    for (const app::FlagSpec& spec : flags.specs()) {
      EXPECT_FALSE(spec.help.empty()) << entry.name << " " << spec.names;
      std::string name = spec.names.substr(spec.names.find_last_of(',') + 1);
      for (std::size_t at = 0; (at = name.find('-', at)) != std::string::npos; at += 2) name.insert(at, "\\");
      EXPECT_THAT(page, HasSubstr(name)) << entry.name;
    }
  }
  // No line may be taken for a request that man(7) does not have.
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(".")) {
      EXPECT_THAT(line, testing::MatchesRegex("\\.(TH|SH|SS|TP|PP|nf|fi).*"));
    }
    EXPECT_FALSE(line.starts_with("'"));
  }
}

TEST(Usage, VersionNamesTheCommit) {
  const Outcome outcome = run_nibble({"--version"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.out, testing::MatchesRegex("nibble [0-9.]+ \\(commit ([0-9a-f]+|unknown)\\)\n"));
}

TEST(Usage, FlagsWinOverEnvironmentAndMayStandBeforeTheVerb) {
  const Outcome outcome =
      run_nibble({"--threads", "3", "--cpu-level", "portable", "doctor", "--quick", "--json"},
                 {"NIBBLE_THREADS=1", "NIBBLE_CPU_LEVEL=avx2"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Result<Json> document = parse_json(outcome.out);
  ASSERT_TRUE(document.ok()) << outcome.out;
  EXPECT_EQ((*document)["threads"], 3);
  EXPECT_EQ((*document)["cpu_level"], "portable");
  EXPECT_EQ(outcome.err, "");
}

TEST(Usage, ErrorsAreJsonOnStdoutWhenAskedFor) {
  const Outcome outcome = run_nibble({"doctor", "--json", "--cpu-level", "none"});
  EXPECT_EQ(outcome.code, 2);
  const Result<Json> document = parse_json(outcome.out);
  ASSERT_TRUE(document.ok()) << outcome.out;
  EXPECT_EQ((*document)["error"]["code"], 2);
  EXPECT_THAT(outcome.err, HasSubstr("--cpu-level"));
}

TEST(Usage, LogFileOfTheEnvironmentWinsOverLogDir) {
  const Scratch scratch;
  const std::string named = scratch / "logs/named.log";
  ASSERT_EQ(run_nibble(
                {"doctor", "--log-dir", scratch / "dir", "--cpu-level", "portable"},
                {"NIBBLE_LOG_FILE=  " + named + "  ", "LLM_COMPRESSOR_LOG_FILE=" + (scratch / "no").string()})
                .code,
            0);
  EXPECT_TRUE(std::filesystem::exists(named));
  EXPECT_FALSE(std::filesystem::exists(scratch / "dir"));
  EXPECT_FALSE(std::filesystem::exists(scratch / "no"));

  ASSERT_EQ(run_nibble({"doctor", "--quick"},
                       {"LLM_COMPRESSOR_LOG_FILE=~/up.log", "HOME=" + (scratch / "home").string()})
                .code,
            0);
  EXPECT_TRUE(std::filesystem::exists(scratch / "home/up.log"));

  ASSERT_EQ(run_nibble({"doctor", "--quick", "--log-dir", scratch / "dir"}).code, 0);
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(scratch / "dir"))
    names.push_back(entry.path().filename());
  ASSERT_EQ(names.size(), 1u);
  EXPECT_THAT(names[0], testing::MatchesRegex("doctor_....-..-.._..-..-..\\.log"));
}

TEST(Usage, DoctorMeasuresTheMachine) {
  const Result<Json> document = parse_json(run_nibble({"doctor", "--json"}).out);
  ASSERT_TRUE(document.ok());
  EXPECT_GT((*document)["gemm_gflop_per_s"], 0.0);
  EXPECT_GT((*document)["memory_gb_per_s"], 0.0);
  EXPECT_GE((*document)["usable_cpus"], 1);
  EXPECT_GT((*document)["memory_bytes"], 0);
}

}  // namespace
}  // namespace nibble::app_test
