// SPDX-License-Identifier: Apache-2.0
// Ctrl-C: long work ends at the next safe point with exit code 130 and says so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <thread>

#include "apps/run_program.h"

namespace nibble::app_test {
namespace {

// Far more work than the test waits for: the whole of WikiText-2 through a model with a 512-token vocabulary.
std::vector<std::string> long_work() {
  return {"eval",      source_path("data/models/stories260K"),
          "--text",    source_path("data/texts/wiki.test.raw"),
          "-t",        "1",
          "--context", "512"};
}

Outcome interrupted(int signal, int times) {
  return run_nibble(long_work(), {}, [&](pid_t child) {
    std::this_thread::sleep_for(std::chrono::milliseconds(700));
    for (int i = 0; i < times; ++i) {
      kill(child, signal);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  });
}

TEST(Signal, InterruptEndsWorkAtTheNextSafePoint) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const Outcome outcome = interrupted(signal, 1);
    EXPECT_EQ(outcome.code, 130);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, testing::HasSubstr("stopping at the next safe point"));
  }
}

TEST(Signal, ASecondInterruptEndsTheProcessAtOnce) {
  EXPECT_EQ(interrupted(SIGINT, 2).code, 130);
}

}  // namespace
}  // namespace nibble::app_test
