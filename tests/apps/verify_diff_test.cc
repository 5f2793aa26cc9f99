// SPDX-License-Identifier: Apache-2.0
// nibble verify and nibble diff, through the program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/run_program.h"
#include "base/hash.h"
#include "base/json.h"

namespace nibble::app_test {
namespace {

using testing::HasSubstr;

const std::string kStories = source_path("data/models/stories260K");

// A compressed copy of the bundled model.
class WrittenModel : public testing::Test {
 protected:
  void SetUp() override {
    out_ = scratch_ / "w4";
    const Outcome outcome =
        run_nibble({"oneshot", kStories, "--scheme", "W4A16", "--group-size", "32", "-o", out_, "-q"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, "");  // --quiet: a success says nothing
  }

  // The file with `bytes` written at `offset` (from the end when negative).
  void damage(const std::string& file, std::ptrdiff_t offset, const std::string& bytes) {
    std::string content = read_file(out_ / file);
    const std::size_t at =
        offset < 0 ? content.size() - static_cast<std::size_t>(-offset) : static_cast<std::size_t>(offset);
    content.replace(at, bytes.size(), bytes);
    write_file(out_ / file, content);
  }

  Scratch scratch_;
  std::filesystem::path out_;
};

Json document_of(const Outcome& outcome) {
  const Result<Json> document = parse_json(outcome.out);
  EXPECT_TRUE(document.ok()) << outcome.out << outcome.err;
  return document.ok() ? *document : Json();
}

TEST_F(WrittenModel, IsWhole) {
  const Json document = document_of(run_nibble({"verify", out_, "--json"}));
  EXPECT_EQ(document["ok"], true);
  EXPECT_EQ(document["quantized_modules"], 35);
  EXPECT_THAT(document["findings"], testing::IsEmpty());
  const std::string bytes = read_file(out_ / "model.safetensors");
  EXPECT_EQ(document["sha256"]["model.safetensors"], sha256_hex(std::as_bytes(std::span(bytes))));
  EXPECT_THAT(run_nibble({"verify", out_}).out, HasSubstr("whole: "));
}

TEST_F(WrittenModel, IsComparedWithEarlierHashes) {
  write_file(scratch_ / "hashes.json", run_nibble({"verify", out_, "--json"}).out);
  EXPECT_EQ(run_nibble({"verify", out_, "--sha256", scratch_ / "hashes.json"}).code, 0);
  const std::string other(64, '0');
  write_file(scratch_ / "SHA256SUMS", other + "  model.safetensors\n");
  const Outcome outcome = run_nibble({"verify", out_, "--sha256", scratch_ / "SHA256SUMS"});
  EXPECT_EQ(outcome.code, 65);
  EXPECT_THAT(outcome.out, HasSubstr("model.safetensors"));
  write_file(scratch_ / "wrong", "this is no list of hashes\n");
  EXPECT_EQ(run_nibble({"verify", out_, "--sha256", scratch_ / "wrong"}).code, 65);
}

TEST_F(WrittenModel, WithNotANumberIsFound) {
  // The last tensors of the file are float: an all-ones word is NaN in F32 and BF16.
  damage("model.safetensors", -4, "\xff\xff\xff\x7f");
  const Outcome outcome = run_nibble({"verify", out_});
  EXPECT_EQ(outcome.code, 65) << outcome.out;
  EXPECT_THAT(outcome.out, HasSubstr("NOT whole"));
  EXPECT_THAT(outcome.err, HasSubstr("problem(s) found"));
}

TEST_F(WrittenModel, CutShortIsRefused) {
  const std::string content = read_file(out_ / "model.safetensors");
  write_file(out_ / "model.safetensors", content.substr(0, content.size() - 100));
  const Outcome outcome = run_nibble({"verify", out_});
  EXPECT_EQ(outcome.code, 65);
  EXPECT_THAT(outcome.err, HasSubstr("model.safetensors"));
}

TEST_F(WrittenModel, DiffersFromItsSourceInTheQuantizedWeights) {
  const Outcome outcome = run_nibble({"diff", kStories, out_, "--json"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err, "");
  const Json document = document_of(outcome);
  EXPECT_EQ(document["same"], false);
  EXPECT_EQ(document["equal_tensors"], 12);
  ASSERT_EQ(document["differing_tensors"].size(), 35u);
  for (const Json& tensor : document["differing_tensors"]) {
    EXPECT_EQ(tensor["kind"], "values");
    EXPECT_GT(tensor["relative_error"], 0.05);
    EXPECT_LT(tensor["relative_error"], 0.15);
  }
}

TEST_F(WrittenModel, IsTheSameAsItself) {
  EXPECT_EQ(run_nibble({"diff", out_, out_}).code, 0);
  EXPECT_EQ(run_nibble({"diff", out_, out_, "--stored"}).code, 0);
  const Outcome stored = run_nibble({"diff", kStories, out_, "--stored"});
  EXPECT_EQ(stored.code, 1);
  EXPECT_THAT(stored.out, HasSubstr("only right"));
  EXPECT_EQ(run_nibble({"diff", out_, "/no/such/model"}).code, 66);
}

}  // namespace
}  // namespace nibble::app_test
