// SPDX-License-Identifier: Apache-2.0
// Statistics files: a run from one gives the bytes of the run that saved it, two merge into that of both data
// sets, and what does not fit is refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "calibrate/statistics_merge.h"
#include "checkpoint/sharded_writer.h"
#include "session/oneshot_fixture.h"
#include "support/golden_tensors.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using testing::GoldenTensors;
using ::testing::HasSubstr;

const char* const kPrune = R"(
run_stage:
  run_modifiers:
    SparseGPTModifier: {sparsity: 0.5, sparsity_profile: owl, owl_m: 5, owl_lmbda: 0.08, mask_structure: "0:0",
                        targets: [Linear], ignore: [lm_head, "re:.*gate$"]}
)";

const char* const kSmooth = R"(
run_stage:
  run_modifiers:
    SmoothQuantModifier: {smoothing_strength: 0.5}
)";

const char* const kStatic = R"(
run_stage:
  run_modifiers:
    QuantizationModifier: {scheme: FP8, targets: [Linear], ignore: [lm_head]}
)";

class StatisticsTest : public ::testing::Test {
 protected:
  fs::path file(const char* name = "s.safetensors") const { return run_.folder() / name; }
  fs::path output(const char* name) const { return run_.folder() / name; }

  Options options(const char* out, const char* base = "base-mini") const {
    Options options;
    options.model = (kOneshotGoldens / base).string();
    options.output_dir = output(out).string();
    return options;
  }
  Options gptq(const char* out, const char* base = "base-mini") const {
    Options result = options(out, base);
    result.scheme = "W4A16";
    result.method = "gptq";
    result.group_size = 32;
    return result;
  }
  static Options with_data(Options options, const std::string& pipeline,
                           const fs::path& data = kCalibrationIds) {
    options.dataset = data.string();
    options.num_calibration_samples = 16;
    options.pipeline = pipeline;
    return options;
  }
  Options saving(Options options, const char* name = "s.safetensors") const {
    options.save_statistics = file(name).string();
    return options;
  }
  Options using_file(Options options, const char* name = "s.safetensors") const {
    options.statistics = file(name).string();
    return options;
  }

  std::string hash(const Options& options, int threads = 2) {
    const auto report = run_.start(options, threads);
    EXPECT_TRUE(report.ok()) << report.error().message();
    return report.ok() ? weights_hash(options.output_dir) : "";
  }
  std::string error_of(const Options& options) {
    const auto report = run_.start(options);
    return report.ok() ? "accepted" : report.error().message();
  }
  // Sequences [first, first + count) of the calibration ids.
  fs::path part_of_ids(std::int64_t first, std::int64_t count, const char* name) const {
    const Tensor ids = GoldenTensors("calibrated/calib_ids.safetensors").get("input_ids");
    const auto all = ids.as<std::int64_t>();
    const std::int64_t length = ids.dim(1);
    const auto span =
        all.subspan(static_cast<std::size_t>(first * length), static_cast<std::size_t>(count * length));
    EXPECT_TRUE(write_safetensors_file(
                    file(name), {{"input_ids", Tensor::of<std::int64_t>(DType::kI64, {count, length}, span)}})
                    .ok());
    return file(name);
  }

  OneshotRun run_;
};

TEST_F(StatisticsTest, TheSameRecipeGivesTheSameBytes) {
  for (const char* base : {"base-mini", "base-mixtral"}) {
    for (const char* pipeline : {"basic", "", "sequential"}) {
      fs::remove(file());
      const std::string direct = hash(with_data(gptq("direct", base), pipeline));
      fs::remove_all(output("direct"));
      EXPECT_EQ(hash(saving(with_data(gptq("saved", base), pipeline))), direct) << "saving changes nothing";
      EXPECT_EQ(hash(using_file(gptq("reused", base)), 1), direct) << base << " " << pipeline;
      fs::remove_all(output("saved"));
      fs::remove_all(output("reused"));
    }
  }
}

TEST_F(StatisticsTest, AnotherRecipeGivesWhatItGivesOnTheData) {
  hash(saving(with_data(gptq("first"), "basic")));
  for (const char* recipe : {kPrune, kSmooth}) {
    Options direct = with_data(options("direct"), "basic");
    Options reused = using_file(options("reused"));
    direct.recipe = reused.recipe = {recipe};
    EXPECT_EQ(hash(direct), hash(reused)) << recipe;
    fs::remove_all(output("direct"));
    fs::remove_all(output("reused"));
  }
}

TEST_F(StatisticsTest, StatisticsBehindChangedLayersAreUsedWithAWarning) {
  hash(saving(with_data(gptq("first"), "")));
  Options other = using_file(gptq("other"));
  other.scheme = "W8A16";
  const auto report = run_.start(other);
  ASSERT_TRUE(report.ok()) << report.error().message();
  EXPECT_THAT(report->warnings, Contains(HasSubstr("another recipe had changed")));
  EXPECT_EQ(report->calibration_tokens, 16 * 64);
}

TEST_F(StatisticsTest, MergedFilesHoldWhatARunOverBothGathers) {
  hash(saving(with_data(gptq("a"), "basic", part_of_ids(0, 5, "a_ids.safetensors")), "a.safetensors"));
  hash(saving(with_data(gptq("b"), "basic", part_of_ids(5, 11, "b_ids.safetensors")), "b.safetensors"));
  hash(saving(with_data(gptq("ab"), "basic", part_of_ids(0, 16, "ab_ids.safetensors")), "ab.safetensors"));
  const auto a = StatisticsFile::open(file("a.safetensors")), b = StatisticsFile::open(file("b.safetensors"));
  ASSERT_TRUE(a.ok() && b.ok());
  ThreadPool pool(2);
  Context context{pool, run_.log, run_.stop};
  const Status status = merge_statistics(*a, *b, file("m.safetensors"), context);
  ASSERT_TRUE(status.ok()) << status.error().message();
  EXPECT_FALSE(fs::exists(file("m.safetensors.parts")));
  const auto merged = StatisticsFile::open(file("m.safetensors"));
  const auto whole = StatisticsFile::open(file("ab.safetensors"));
  ASSERT_TRUE(merged.ok() && whole.ok());
  ASSERT_EQ(merged->inputs().at("0").size(), whole->inputs().at("0").size());
  for (const auto& [name, entry] : whole->inputs().at("0")) {
    const auto x = merged->load_input("0", name), y = whole->load_input("0", name);
    ASSERT_TRUE(x.ok() && y.ok()) << name;
    EXPECT_EQ(x->record.tokens, y->record.tokens);
    EXPECT_EQ(x->record.sequences, y->record.sequences);
    EXPECT_EQ(x->record.column_min, y->record.column_min);
    EXPECT_EQ(x->record.column_max, y->record.column_max);
    for (std::size_t c = 0; c < x->record.abs_mean.size(); ++c)
      EXPECT_NEAR(x->record.abs_mean[c], y->record.abs_mean[c], 1e-6 * y->record.abs_mean[c]) << name;
    const Matrix& h = x->hessian->values;
    const Matrix& expected = y->hessian->values;
    for (std::int64_t r = 0; r < h.rows(); ++r) {
      for (std::int64_t c = 0; c < h.cols(); ++c) {
        const float size = std::sqrt(expected.at(r, r) * expected.at(c, c));
        ASSERT_NEAR(h.at(r, c), expected.at(r, c), 2e-6F * size) << name << " " << r << " " << c;
      }
    }
  }
  hash(using_file(gptq("reused"), "m.safetensors"));
}

TEST_F(StatisticsTest, WhatCannotBeMergedIsRefused) {
  hash(saving(with_data(gptq("a"), "basic"), "a.safetensors"));
  hash(saving(with_data(gptq("b"), "", part_of_ids(3, 4, "ids.safetensors")), "b.safetensors"));
  Options other_model = with_data(gptq("c", "base-mini-fp32"), "basic", part_of_ids(3, 4, "ids.safetensors"));
  hash(saving(other_model, "c.safetensors"));
  const auto a = StatisticsFile::open(file("a.safetensors")), b = StatisticsFile::open(file("b.safetensors")),
             c = StatisticsFile::open(file("c.safetensors"));
  ASSERT_TRUE(a.ok() && b.ok() && c.ok());
  ThreadPool pool(1);
  Context context{pool, run_.log, run_.stop};
  const auto refused = [&](const StatisticsFile& x, const StatisticsFile& y) {
    const Status status = merge_statistics(x, y, file("m.safetensors"), context);
    EXPECT_FALSE(fs::exists(file("m.safetensors")));
    return status.ok() ? "accepted" : status.error().message();
  };
  EXPECT_THAT(refused(*a, *a), HasSubstr("the same tokens"));
  EXPECT_THAT(refused(*a, *b), HasSubstr("cannot be merged"));
  EXPECT_THAT(refused(*a, *c), HasSubstr("differ in model"));
}

TEST_F(StatisticsTest, WhatDoesNotFitIsRefusedBeforeTheRun) {
  hash(saving(with_data(gptq("first"), "basic")));
  EXPECT_THAT(error_of(using_file(gptq("x", "base-mini-fp32"))), HasSubstr("from another model"));
  Options statics = using_file(options("x"));
  statics.recipe = {kStatic};
  EXPECT_THAT(error_of(statics), HasSubstr("static scales of activations"));
  EXPECT_THAT(error_of(with_data(using_file(gptq("x")), "")), HasSubstr("both a dataset and statistics"));
  Options pipeline = using_file(gptq("x"));
  pipeline.pipeline = "sequential";
  EXPECT_THAT(error_of(pipeline), HasSubstr("was calibrated with basic"));
  EXPECT_THAT(error_of(saving(with_data(gptq("x"), "basic"))), HasSubstr("exists already"));
  Options data_free = saving(options("x"), "new.safetensors");
  data_free.scheme = "W4A16";
  EXPECT_THAT(error_of(data_free), HasSubstr("no statistics to save"));
  EXPECT_THAT(error_of(saving(with_data(gptq("x"), ""), "new.bin")), HasSubstr(".safetensors"));
  Options weights = gptq("x");
  weights.statistics = (kOneshotGoldens / "base-mini/model.safetensors").string();
  EXPECT_THAT(error_of(weights), HasSubstr("holds no statistics"));

  // Saved without second moments.
  fs::remove(file());
  Options smooth = saving(with_data(options("smooth"), "basic"));
  smooth.recipe = {kSmooth};
  hash(smooth);
  EXPECT_THAT(error_of(using_file(gptq("x"))), HasSubstr("q_proj, the second moments of the input"));
  EXPECT_FALSE(fs::exists(output("x")));
}

TEST_F(StatisticsTest, DamagedFilesAreRefused) {
  hash(saving(with_data(gptq("first"), "basic")));
  auto text = read_text_file(file());
  ASSERT_TRUE(text.ok());
  const std::size_t header = 8 + static_cast<unsigned char>((*text)[0]) +
                             (static_cast<std::size_t>(static_cast<unsigned char>((*text)[1])) << 8);
  const auto result_with = [&](const std::string& bytes) {
    std::ofstream(file("damaged.safetensors"), std::ios::binary) << bytes;
    Options options = using_file(gptq("x"), "damaged.safetensors");
    options.output_dir.clear();
    return error_of(options);
  };
  ASSERT_EQ(result_with(*text), "accepted");
  ASSERT_LT(header, text->size());
  for (std::size_t at = header + 3; at < text->size(); at += text->size() / 12) {
    std::string bytes = *text;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
    EXPECT_THAT(result_with(bytes), HasSubstr("not those that were written")) << at;
  }
  // In the header a change may be harmless (the name of a data set), but never fatal.
  for (std::size_t at = 0; at < header; at += 97) {
    std::string bytes = *text;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x04);
    result_with(bytes);
  }
  for (const std::size_t length : {std::size_t{0}, std::size_t{7}, header / 2, header, text->size() - 1})
    EXPECT_NE(result_with(text->substr(0, length)), "accepted") << length;
}

TEST_F(StatisticsTest, AStoppedRunGoesOnToTheSameFile) {
  hash(saving(with_data(gptq("whole"), "")));
  const auto whole = read_text_file(file());
  ASSERT_TRUE(whole.ok());
  int stopped = 0;
  for (int event = 12; event < 70; event += 13) {
    OneshotRun run;
    ThreadPool pool(2);
    StopAt sink(run.stop, event);
    Context context{pool, sink, run.stop};
    Options options = with_data(gptq("x"), "");
    options.output_dir = run.output().string();
    options.save_statistics = (run.folder() / "s.safetensors").string();
    if (const auto first = run_oneshot(options, context); !first.ok()) {
      EXPECT_FALSE(fs::exists(options.save_statistics));
      ++stopped;
      options.resume = true;
      OneshotRun next;
      const auto second = next.start(options);
      ASSERT_TRUE(second.ok()) << second.error().message();
    }
    const auto text = read_text_file(options.save_statistics);
    ASSERT_TRUE(text.ok());
    EXPECT_EQ(*text, *whole) << "stopped at event " << event;
    EXPECT_FALSE(fs::exists(options.save_statistics + ".parts"));
  }
  EXPECT_GE(stopped, 2);
}

}  // namespace
}  // namespace nibble
