// SPDX-License-Identifier: Apache-2.0
// What a calibrated run promises: the same bytes for any threads, memory, batches and after any stop; padding
// never counts; what cannot work is refused with the reason.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "checkpoint/sharded_writer.h"
#include "session/oneshot_fixture.h"
#include "support/golden_tensors.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using testing::GoldenTensors;
using ::testing::HasSubstr;

Options gptq(const OneshotRun& run, const char* base = "base-mini") {
  Options options;
  options.model = (kOneshotGoldens / base).string();
  options.scheme = "W4A16";
  options.method = "gptq";
  options.group_size = 32;
  options.dataset = kCalibrationIds.string();
  options.num_calibration_samples = 16;
  options.output_dir = run.output().string();
  return options;
}

// The hash of a run with changed options.
std::string run_hash(const std::function<void(Options&)>& change, int threads = 2,
                     const char* base = "base-mini") {
  OneshotRun run;
  Options options = gptq(run, base);
  change(options);
  const auto report = run.start(options, threads);
  EXPECT_TRUE(report.ok()) << report.error().message();
  return report.ok() ? weights_hash(run.output()) : "";
}

std::string error_with(const std::function<void(Options&)>& change) {
  OneshotRun run;
  Options options = gptq(run);
  change(options);
  const auto job = run.prepare(options);
  return job.ok() ? "accepted" : job.error().message();
}

TEST(CalibratedTest, ThreadsMemoryAndBatchesDoNotChangeAByte) {
  for (const char* base : {"base-mini", "base-mixtral"}) {
    std::set<std::string> hashes;
    for (const int threads : {1, 2, 4}) hashes.insert(run_hash([](Options&) {}, threads, base));
    hashes.insert(run_hash([](Options& o) { o.memory_budget = "100KB"; }, 2, base));
    hashes.insert(run_hash([](Options& o) { o.batch_size = 4; }, 2, base));
    EXPECT_EQ(hashes.size(), 1u) << base;
  }
}

TEST(CalibratedTest, OneModifierMeansTheSameInEveryNamedPipeline) {
  const auto with = [](const char* pipeline) {
    return run_hash([pipeline](Options& o) { o.pipeline = pipeline; });
  };
  EXPECT_EQ(with("independent"), with("sequential"));
  EXPECT_EQ(with("basic"), run_hash([](Options& o) {
              o.pipeline = "independent";
              o.propagate_error = false;
            }));
  EXPECT_NE(with("basic"), with("sequential"));
  EXPECT_NE(with("independent"), run_hash([](Options&) {}));  // stage-wise
}

TEST(CalibratedTest, LinearTargetsCutWhereTheStagesAre) {
  const std::string named = run_hash([](Options& o) { o.sequential_targets = {"Linear"}; });
  EXPECT_EQ(named, run_hash([](Options&) {}));
  EXPECT_NE(named, run_hash([](Options& o) { o.sequential_targets_per_subgraph = 2; }));
}

TEST(CalibratedTest, TheReportSaysOnWhatTheRunWasCalibrated) {
  OneshotRun run;
  const auto report = run.start(gptq(run));
  ASSERT_TRUE(report.ok()) << report.error().message();
  EXPECT_EQ(report->pipeline, "stage-wise");
  EXPECT_EQ(report->calibration_samples, 16);
  EXPECT_EQ(report->calibration_tokens, 16 * 64);
  for (const ModuleRow& row : report->modules) {
    ASSERT_EQ(row.changes.size(), 1u) << row.name;
    EXPECT_TRUE(row.changes[0].rtn_relative_error.has_value()) << row.name;
  }
  for (const auto& entry : fs::directory_iterator(run.output())) {
    const std::string name = entry.path().filename().string();
    EXPECT_FALSE(name.starts_with("ledger") || name.starts_with("stream")) << name;
  }
}

// Sequences that end in padding, and the same sequences with the padding replaced by other tokens.
TEST(CalibratedTest, PaddedTokensDoNotCount) {
  const GoldenTensors golden("calibrated/calib_ids.safetensors");
  const Tensor ids = golden.get("input_ids");
  std::set<std::string> hashes;
  for (const std::int64_t filler : {0, 7}) {
    std::vector<std::int64_t> values(ids.as<std::int64_t>().begin(), ids.as<std::int64_t>().end());
    std::vector<std::int64_t> mask(values.size(), 1);
    for (std::size_t s = 0; s < 16; ++s) {
      for (std::size_t t = 40 + s; t < 64; ++t) {
        values[s * 64 + t] = filler;
        mask[s * 64 + t] = 0;
      }
    }
    OneshotRun run;
    const fs::path file = run.folder() / "padded.safetensors";
    ASSERT_TRUE(write_safetensors_file(
                    file, {{"input_ids", Tensor::of<std::int64_t>(DType::kI64, {16, 64}, values)},
                           {"attention_mask", Tensor::of<std::int64_t>(DType::kI64, {16, 64}, mask)}})
                    .ok());
    Options options = gptq(run);
    options.dataset = file.string();
    const auto report = run.start(options);
    ASSERT_TRUE(report.ok()) << report.error().message();
    hashes.insert(weights_hash(run.output()));
  }
  EXPECT_EQ(hashes.size(), 1u);
}

TEST(CalibratedTest, AStoppedRunGoesOnToTheSameBytes) {
  const std::string undisturbed = run_hash([](Options&) {});
  int stopped = 0;
  for (int event = 4; event < 70; event += 11) {
    OneshotRun run;
    ThreadPool pool(2);
    StopAt sink(run.stop, event);
    Context context{pool, sink, run.stop};
    Options options = gptq(run);
    const auto first = run_oneshot(options, context);
    if (!first.ok()) {
      EXPECT_EQ(first.error().code, ErrorCode::kResumable) << first.error().message();
      EXPECT_FALSE(fs::exists(run.output()));
      ++stopped;
      OneshotRun next;
      options.resume = true;
      const auto second = next.start(options, 1);
      ASSERT_TRUE(second.ok()) << second.error().message();
      for (const ModuleRow& row : second->modules) EXPECT_EQ(row.changes.size(), 1u) << row.name;
    }
    EXPECT_EQ(weights_hash(run.output()), undisturbed) << "stopped at event " << event;
  }
  EXPECT_GE(stopped, 3);
}

TEST(CalibratedTest, AResumedRunWithAnotherInputIsRefusedByName) {
  OneshotRun run;
  ThreadPool pool(2);
  StopAt sink(run.stop, 14);
  Context context{pool, sink, run.stop};
  Options options = gptq(run);
  const auto first = run_oneshot(options, context);
  ASSERT_FALSE(first.ok());
  const auto refused = [&](const std::function<void(Options&)>& change) {
    OneshotRun next;
    Options changed = options;
    changed.resume = true;
    change(changed);
    const auto second = next.start(changed);
    return second.ok() ? "accepted" : second.error().message();
  };
  EXPECT_THAT(refused([](Options& o) { o.num_calibration_samples = 8; }), HasSubstr("another dataset"));
  EXPECT_THAT(refused([](Options& o) { o.seed = 1; }), HasSubstr("another seed: 42, and now 1"));
  EXPECT_THAT(refused([](Options& o) { o.group_size = 64; }), HasSubstr("another recipe"));
  EXPECT_THAT(refused([](Options& o) { o.model = (kOneshotGoldens / "base-mini-fp32").string(); }),
              HasSubstr("another model"));
}

TEST(CalibratedTest, ExpertsWithFewTokensAreNamed) {
  OneshotRun run;
  Options options = gptq(run, "base-mixtral");
  options.num_calibration_samples = 2;
  options.moe_calibrate_all_experts = false;
  const auto report = run.start(options);
  ASSERT_TRUE(report.ok()) << report.error().message();
  EXPECT_THAT(report->warnings, Contains(HasSubstr("experts that saw fewer than")));
}

TEST(CalibratedTest, DataThatCannotBeUsedIsRefusedBeforeAnyWeightIsRead) {
  EXPECT_THAT(error_with([](Options& o) { o.dataset.clear(); }), HasSubstr("needs calibration data"));
  EXPECT_THAT(error_with([](Options& o) { o.dataset = "open_platypus"; }), HasSubstr("downloads nothing"));
  EXPECT_THAT(error_with([](Options& o) { o.preprocessing = "x"; }), HasSubstr("preprocessing"));
  const std::string weights = (kOneshotGoldens / "base-mini/model.safetensors").string();
  EXPECT_THAT(error_with([&](Options& o) { o.dataset = weights; }), HasSubstr("holds no input_ids"));
}

}  // namespace
}  // namespace nibble
