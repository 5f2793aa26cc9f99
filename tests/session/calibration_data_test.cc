// SPDX-License-Identifier: Apache-2.0
// Data arguments: what each does to the batches, and that a seed decides all that is random.
#include "session/calibration_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "session/oneshot_fixture.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const fs::path kSource(NIBBLE_SOURCE_DIR);

class CalibrationDataTest : public ::testing::Test {
 protected:
  CalibrationDataTest() {
    options_.model = (kSource / "data/models/stories260K").string();
    options_.dataset = (kSource / "data/texts/stories.jsonl").string();
    options_.num_calibration_samples = 12;
    options_.max_seq_length = 48;
  }

  Result<CalibrationData> load() const {
    ThreadPool pool(2);
    TRY_ASSIGN(const auto checkpoint, Checkpoint::open(options_.model));
    return load_calibration_data(options_, *checkpoint, pool);
  }
  CalibrationData data() const {
    auto loaded = load();
    EXPECT_TRUE(loaded.ok()) << loaded.error().message();
    return loaded.ok() ? std::move(loaded).value() : CalibrationData();
  }
  std::string error() const {
    const auto loaded = load();
    return loaded.ok() ? "accepted" : loaded.error().message();
  }
  fs::path write(const std::string& name, const std::string& text) const {
    std::ofstream(run_.folder() / name) << text;
    return run_.folder() / name;
  }

  OneshotRun run_;
  Options options_;
};

TEST_F(CalibrationDataTest, SamplesAreCutToLengthAndNumber) {
  const CalibrationData cut = data();
  EXPECT_EQ(cut.samples, 12);
  ASSERT_EQ(cut.batches.size(), 12u);
  for (const Batch& batch : cut.batches) {
    EXPECT_EQ(batch.sequences, 1);
    EXPECT_LE(batch.length, 48);
    EXPECT_TRUE(batch.mask.empty());
  }
}

TEST_F(CalibrationDataTest, TheSeedDecidesTheOrder) {
  const std::string first = data().fingerprint;
  EXPECT_EQ(data().fingerprint, first);
  options_.seed = 43;
  EXPECT_NE(data().fingerprint, first);
  options_.shuffle_calibration_samples = false;
  const std::string unshuffled = data().fingerprint;
  options_.seed = 42;
  EXPECT_EQ(data().fingerprint, unshuffled);
}

TEST_F(CalibrationDataTest, UnshuffledSamplesComeLongestFirst) {
  options_.shuffle_calibration_samples = false;
  options_.dataset = write("three.jsonl",
                           "{\"text\": \"One day.\"}\n{\"text\": \"Once upon a time there was a dog.\"}\n"
                           "{\"text\": \"A cat sat there.\"}\n")
                         .string();
  const CalibrationData three = data();
  ASSERT_EQ(three.batches.size(), 3u);
  EXPECT_GT(three.batches[0].length, three.batches[1].length);
  EXPECT_GT(three.batches[1].length, three.batches[2].length);
  EXPECT_THAT(three.notes, ::testing::Contains(HasSubstr("3 calibration samples, 12 were asked for")));
}

TEST_F(CalibrationDataTest, ConcatenatedTextsFillEverySample) {
  options_.concatenate_data = true;
  for (const Batch& batch : data().batches) EXPECT_EQ(batch.length, 48);
}

TEST_F(CalibrationDataTest, CollatorsGiveABatchOneLength) {
  options_.batch_size = 4;
  const CalibrationData cut = data();
  ASSERT_EQ(cut.batches.size(), 3u);
  EXPECT_TRUE(cut.batches[0].mask.empty());
  options_.data_collator = "padding";
  options_.pad_to_max_length = true;
  options_.max_seq_length = 600;  // longer than every story
  const CalibrationData padded = data();
  EXPECT_EQ(padded.batches[0].length, 600);
  EXPECT_EQ(std::count(padded.batches[0].mask.begin(), padded.batches[0].mask.end(), 1) > 0, true);
  EXPECT_LT(padded.tokens, 12 * 600);
  options_.data_collator = "cutting";
  EXPECT_THAT(error(), HasSubstr("truncation and padding"));
}

TEST_F(CalibrationDataTest, SplitsTakeAPartOfTheFile) {
  const std::string whole = data().fingerprint;
  options_.splits = "train";
  EXPECT_EQ(data().fingerprint, whole);
  options_.splits = "train[:4]";
  EXPECT_EQ(data().samples, 4);
  options_.splits = "train[50%:]";
  EXPECT_NE(data().fingerprint, whole);
  options_.splits = "train[9";
  EXPECT_THAT(error(), HasSubstr("not understood"));
}

TEST_F(CalibrationDataTest, APlainTextIsCutIntoSamples) {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "Once upon a time there was a little dog. ";
  options_.dataset = write("story.txt", text).string();
  for (const Batch& batch : data().batches) EXPECT_EQ(batch.length, 48);
}

TEST_F(CalibrationDataTest, WhatCannotBeDoneIsSaid) {
  options_.use_loss_mask = true;
  EXPECT_THAT(error(), HasSubstr("use_loss_mask"));
  options_.use_loss_mask = false;
  options_.dataset = write("short.txt", "One.").string();
  EXPECT_THAT(error(), HasSubstr("no calibration sample of 48 tokens"));
  options_.dataset = "ultrachat_200k";
  EXPECT_THAT(error(), HasSubstr("downloads nothing"));
}

}  // namespace
}  // namespace nibble
