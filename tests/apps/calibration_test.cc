// SPDX-License-Identifier: Apache-2.0
// Calibrated runs of the program: memory stays within its budget, Ctrl-C and kill leave what --resume
// continues to the same bytes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "apps/run_program.h"

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

TEST(Calibration, ARunThatWasKilledOrStoppedGoesOnToTheSameBytes) {
  const Scratch scratch;
  ASSERT_EQ(run_nibble(gptq(scratch / "whole", "160")).code, 0);
  const std::string whole = read_file(scratch / "whole/model.safetensors");
  int interruptions = 0;
  for (const int signal : {SIGKILL, SIGINT}) {
    const std::filesystem::path out = scratch / ("out" + std::to_string(signal));
    Outcome outcome = stopped(gptq(out, "160"), signal, 500);
    for (int wait = 150; outcome.code != 0 && wait < 1000; wait += 150) {
      ++interruptions;
      if (outcome.code == 75) {
        EXPECT_THAT(outcome.err, HasSubstr("--resume"));
      }
      outcome = stopped(gptq(out, "160", {"--resume"}), signal, wait);
    }
    if (outcome.code != 0) outcome = run_nibble(gptq(out, "160", {"--resume"}));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(read_file(out / "model.safetensors"), whole);
  }
  EXPECT_GE(interruptions, 2);
}

}  // namespace
}  // namespace nibble::app_test
