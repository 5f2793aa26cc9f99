// SPDX-License-Identifier: Apache-2.0
// Calibrated runs of the program: memory stays within its budget, Ctrl-C and kill leave what --resume
// continues to the same bytes.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <span>
#include <thread>

#include "apps/run_program.h"
#include "base/hash.h"
#include "base/rng.h"

namespace nibble::app_test {
namespace {

using ::testing::HasSubstr;

std::vector<std::string> gptq(const std::filesystem::path& out, const char* samples,
                              const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments{"oneshot",
                                     source_path("data/models/stories260K"),
                                     "--scheme",
                                     "W4A16",
                                     "--method",
                                     "gptq",
                                     "--group-size",
                                     "32",
                                     "--dataset",
                                     source_path("data/texts/wiki.test.raw"),
                                     "--max-seq-length",
                                     "256",
                                     "--num-calibration-samples",
                                     samples,
                                     "--output-dir",
                                     out.string()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST(Calibration, MemoryStaysWithinTheBudget) {
  const Scratch scratch;
  ASSERT_EQ(run_nibble(gptq(scratch / "wide", "240")).code, 0);
  ASSERT_EQ(run_nibble(gptq(scratch / "tight", "240", {"--memory-budget", "80MB"})).code, 0);
  EXPECT_EQ(read_file(scratch / "wide/model.safetensors"), read_file(scratch / "tight/model.safetensors"));
  EXPECT_EQ(run_nibble({"verify", (scratch / "wide").string()}).code, 0);
  const auto peak = [&](const char* name) {
    const auto report = nlohmann::json::parse(read_file(scratch / name / "report.json"));
    return report["totals"]["peak_memory_bytes"].get<std::uint64_t>();
  };
  EXPECT_LT(peak("tight"), 80'000'000u);
  EXPECT_GT(peak("wide"), 80'000'000u);
}

// Sends a signal after a while; later each time.
Outcome stopped(const std::vector<std::string>& arguments, int signal, int milliseconds) {
  return run_nibble(arguments, {}, [&](pid_t child) {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    kill(child, signal);
  });
}

// Runs `arguments`; how long that took in milliseconds.
double milliseconds_of(const std::vector<std::string>& arguments) {
  const auto start = std::chrono::steady_clock::now();
  const Outcome undisturbed = run_nibble(arguments);
  EXPECT_EQ(undisturbed.code, 0) << undisturbed.err;
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

// Moments are shares of the time of the undisturbed run, and trials go on until a signal came in time: other
// work on the machine moves what it hits. A kill behind the last rename leaves nothing to resume.
TEST(Calibration, ARunThatWasKilledOrStoppedGoesOnToTheSameBytes) {
  const Scratch scratch;
  const double whole = milliseconds_of(gptq(scratch / "whole", "160"));
  for (const int signal : {SIGKILL, SIGINT}) {
    int interruptions = 0;
    for (int trial = 0; trial < 12 && interruptions == 0; ++trial) {
      const std::filesystem::path out = scratch / fmt::format("out{}-{}", signal, trial);
      Outcome outcome = stopped(gptq(out, "160"), signal, static_cast<int>(whole * 0.7));
      for (const double share : {0.2, 0.4, 0.6}) {
        if (std::filesystem::exists(out)) break;
        EXPECT_EQ(outcome.code, signal == SIGINT ? 75 : 128 + SIGKILL) << outcome.err;
        if (signal == SIGINT) {
          EXPECT_THAT(outcome.err, HasSubstr("--resume"));
        }
        ++interruptions;
        outcome = stopped(gptq(out, "160", {"--resume"}), signal, static_cast<int>(whole * share));
      }
      if (!std::filesystem::exists(out)) {
        outcome = run_nibble(gptq(out, "160", {"--resume"}));
        EXPECT_EQ(outcome.code, 0) << outcome.err;
      }
      EXPECT_EQ(read_file(out / "model.safetensors"), read_file(scratch / "whole/model.safetensors"));
    }
    EXPECT_GE(interruptions, 1) << "signal " << signal;
  }
}

// SparseGPT 2:4, then GPTQ on the survivors.
constexpr const char* kJoint = R"(joint_stage:
  joint_modifiers:
    SparseGPTModifier: {sparsity: 0.5, mask_structure: "2:4", targets: [Linear], ignore: [lm_head]}
    GPTQModifier:
      ignore: [lm_head]
      config_groups:
        group_0:
          targets: [Linear]
          weights: {num_bits: 4, type: int, symmetric: true, strategy: group, group_size: 4}
)";

std::vector<std::string> joint(const std::filesystem::path& folder, const char* out, bool resume = false) {
  std::vector<std::string> arguments{"oneshot",
                                     source_path("data/models/stories260K"),
                                     "--recipe",
                                     (folder / "joint.yaml").string(),
                                     "--dataset",
                                     source_path("data/texts/wiki.test.raw"),
                                     "--max-seq-length",
                                     "256",
                                     "--num-calibration-samples",
                                     "80",
                                     "--output-dir",
                                     (folder / out).string()};
  if (resume) arguments.emplace_back("--resume");
  return arguments;
}

std::string sha256_of(const std::filesystem::path& file) {
  const std::string bytes = read_file(file);
  return sha256_hex(std::as_bytes(std::span(bytes)));
}

// As above; the draw of the moments is fixed.
TEST(Calibration, PruningWithQuantizationSurvivesKillsAtRandomMoments) {
  const Scratch scratch;
  write_file(scratch / "joint.yaml", kJoint);
  const double whole = milliseconds_of(joint(scratch / "", "whole"));
  Rng rng(24);
  int kills = 0, resumed = 0;
  for (int trial = 0; trial < 3 || (trial < 12 && (kills < 2 || resumed < 1)); ++trial) {
    const std::string out = "killed" + std::to_string(trial);
    Outcome outcome;
    bool is_whole = false;  // also when the kill came after the last rename
    for (int attempt = 0; !is_whole && attempt < 4; ++attempt) {
      const auto arguments = joint(scratch / "", out.c_str(), attempt > 0);
      const auto moment = static_cast<int>(whole * (0.1 + 0.8 * rng.uniform()));
      outcome = attempt < 3 ? stopped(arguments, SIGKILL, moment) : run_nibble(arguments);
      const bool is_killed = outcome.code == 128 + SIGKILL;
      EXPECT_TRUE(outcome.code == 0 || is_killed) << outcome.code << outcome.err;
      is_whole = std::filesystem::exists(scratch / out);
      EXPECT_TRUE(is_whole || is_killed) << "a run that ends leaves its output";
      if (is_killed) ++kills;
      if (outcome.err.find("resumed behind block") != std::string::npos) ++resumed;
    }
    for (const char* file : {"model.safetensors", "config.json", "recipe.yaml"})
      EXPECT_EQ(sha256_of(scratch / out / file), sha256_of(scratch / "whole" / file)) << trial << " " << file;
    EXPECT_FALSE(std::filesystem::exists(scratch / (out + ".partial")));
  }
  EXPECT_GE(kills, 2);
  EXPECT_GE(resumed, 1);
  const Outcome zeros =
      run_nibble({"verify", (scratch / "whole").string(), "--sparsity", "0.5", "--mask-structure", "2:4"});
  EXPECT_EQ(zeros.code, 0) << zeros.out << zeros.err;
}

}  // namespace
}  // namespace nibble::app_test
