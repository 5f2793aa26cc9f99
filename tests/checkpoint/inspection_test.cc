// SPDX-License-Identifier: Apache-2.0
// Statistics, diff and verify.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "base/hash.h"
#include "checkpoint/diff.h"
#include "checkpoint/sharded_writer.h"
#include "checkpoint/tensor_statistics.h"
#include "checkpoint/verify.h"
#include "test_files.h"

namespace nibble {
namespace {

using test::golden;
using test::TemporaryFolder;
using test::write_bytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Surroundings {
  explicit Surroundings(int threads = 2) : pool(threads) {}
  ThreadPool pool;
  NullSink events;
  StopToken stop;
  Context context{pool, events, stop};
};

Tensor f32(const Shape& shape, const std::vector<float>& values) {
  return Tensor::from_f32(DType::kF32, shape, values);
}

TEST(TensorStatisticsTest, CountsWhatIsNotFiniteAndDescribesTheRest) {
  ThreadPool pool(2);
  const TensorStatistics s = tensor_statistics(f32({2, 4}, {0, -0.0F, 3, kNan, -1, kInfinity, 2, 0}), pool);
  EXPECT_EQ(s.count, 8);
  EXPECT_EQ(s.nans, 1);
  EXPECT_EQ(s.infinities, 1);
  EXPECT_EQ(s.zeros, 3);
  EXPECT_EQ(s.minimum, -1);
  EXPECT_EQ(s.maximum, 3);
  EXPECT_EQ(s.absolute_maximum, 3);
  EXPECT_NEAR(s.mean, 4.0 / 6, 1e-12);
  EXPECT_EQ(s.groups_of_four, 2);
  EXPECT_EQ(s.two_of_four_zero, 1);
  EXPECT_EQ(tensor_statistics(Tensor(DType::kF32, {0, 4}), pool).count, 0);
  EXPECT_EQ(tensor_statistics(f32({1}, {kNan}), pool).maximum, 0);
}

TEST(TensorStatisticsTest, MomentsSurviveALargeOffsetAndThreadsDoNotMatter) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(1000.0F, 2.0F);
  std::vector<float> values(300'001);
  for (float& v : values) v = normal(random);
  ThreadPool one(1), three(3);
  const TensorStatistics a = tensor_statistics(f32({300'001}, values), one);
  const TensorStatistics b = tensor_statistics(f32({300'001}, values), three);
  EXPECT_NEAR(a.mean, 1000, 0.05);
  EXPECT_NEAR(a.deviation, 2, 0.02);
  EXPECT_NEAR(a.kurtosis, 3, 0.05);
  EXPECT_EQ(a.mean, b.mean);
  EXPECT_EQ(a.kurtosis, b.kurtosis);
}

TEST(TensorStatisticsTest, HistogramsCountEveryFiniteValue) {
  ThreadPool pool(2);
  EXPECT_THAT(tensor_histogram(f32({6}, {0, 0.5F, 1, 2, -7, kNan}), 0, 1, 2, pool), ElementsAre(2, 3));
  EXPECT_THAT(tensor_histogram(f32({2}, {5, 5}), 5, 5, 3, pool), ElementsAre(2, 0, 0));
}

std::unique_ptr<Checkpoint> written(const TemporaryFolder& folder, const std::string& config,
                                    const std::vector<std::pair<std::string, Tensor>>& tensors) {
  write_bytes(folder / "config.json", config);
  EXPECT_TRUE(write_safetensors_file(folder / "model.safetensors", tensors).ok());
  return Checkpoint::open(folder.path().string()).value();
}

TEST(DiffTest, NamesEveryKindOfDifference) {
  const TemporaryFolder left, right;
  const auto a = written(left, R"({"x": 1, "rope": {"theta": 1, "type": "linear"}, "same": [1]})",
                         {{"equal", f32({2}, {1, kNan})},
                          {"gone", f32({1}, {1})},
                          {"shape", f32({2}, {1, 2})},
                          {"type", f32({1}, {1.5F})},
                          {"values", f32({4}, {3, 4, 1, 0})}});
  const auto b = written(right, R"({"rope": {"theta": 2, "type": "linear"}, "same": [1]})",
                         {{"equal", f32({2}, {1, kNan})},
                          {"new", f32({1}, {1})},
                          {"shape", f32({1, 2}, {1, 2})},
                          {"type", Tensor::from_f32(DType::kBF16, {1}, std::vector<float>{1.5F})},
                          {"values", f32({4}, {3, 4.5F, kInfinity, 0})}});
  Surroundings s;
  const auto diff = diff_checkpoints(s.context, *a, *b);
  ASSERT_TRUE(diff.ok()) << diff.error().message();
  std::map<std::string, TensorDifference> by_name;
  for (const TensorDifference& d : diff->tensors) by_name[d.name] = d;
  EXPECT_EQ(by_name.size(), 6U);
  EXPECT_EQ(by_name["equal"].kind, DifferenceKind::kEqual);
  EXPECT_EQ(by_name["gone"].kind, DifferenceKind::kOnlyLeft);
  EXPECT_EQ(by_name["new"].kind, DifferenceKind::kOnlyRight);
  EXPECT_EQ(by_name["shape"].kind, DifferenceKind::kShape);
  EXPECT_EQ(by_name["shape"].right, "F32 [1, 2]");
  EXPECT_EQ(by_name["type"].kind, DifferenceKind::kDtype);
  EXPECT_EQ(by_name["values"].kind, DifferenceKind::kValues);
  EXPECT_EQ(by_name["values"].differing, 2);
  EXPECT_EQ(by_name["values"].not_comparable, 1);
  EXPECT_EQ(by_name["values"].max_error, 0.5);
  EXPECT_NEAR(by_name["values"].relative_error, 0.5 / std::sqrt(26.0), 1e-12);
  EXPECT_THAT(diff->config_keys, ElementsAre("rope/theta", "x"));
  EXPECT_FALSE(diff->is_same());
  EXPECT_TRUE(diff_checkpoints(s.context, *a, *a)->is_same());
}

std::vector<std::string> findings(const Checkpoint& checkpoint, const VerifyOptions& options = {}) {
  Surroundings s;
  const auto report = verify_checkpoint(s.context, checkpoint, options);
  EXPECT_TRUE(report.ok());
  std::vector<std::string> texts;
  for (const VerifyFinding& f : report->findings)
    texts.push_back((f.is_error ? "error " : "warning ") + f.where + ": " + f.what);
  return texts;
}

TEST(VerifyTest, AGoodModelHasNoFindingsAndItsHash) {
  const TemporaryFolder folder;
  const auto model = written(folder, "{}", {{"a", f32({2}, {1, 2})}});
  Surroundings s;
  const auto report = verify_checkpoint(s.context, *model, {});
  ASSERT_TRUE(report.ok());
  EXPECT_TRUE(report->ok());
  EXPECT_EQ(report->tensors, 1);
  const std::string bytes = test::read_bytes(folder / "model.safetensors");
  EXPECT_EQ(report->sha256.at("model.safetensors"),
            sha256_hex(std::as_bytes(std::span(bytes.data(), bytes.size()))));
  EXPECT_THAT(findings(*model, {.expected_sha256 = {{"model.safetensors", "00"}}}),
              ElementsAre(HasSubstr("expected 00")));
}

TEST(VerifyTest, ValuesThatAreNotFiniteAreNamedByTensor) {
  const TemporaryFolder folder;
  const auto model =
      written(folder, "{}", {{"bad", f32({3}, {1, kNan, -kInfinity})}, {"good", f32({1}, {1})}});
  EXPECT_THAT(findings(*model), ElementsAre("error tensor bad: 1 of 3 values are NaN and 1 infinite"));
}

TEST(VerifyTest, TheReferencesQuantizedModelsAreGood) {
  for (const char* name : {"mixed", "w4_g64_asym", "kv_cache_head_w8a8", "dense_uncompressed",
                           "with_lm_head_and_embed", "mixtral_w4_g32"}) {
    const auto model = Checkpoint::open(golden(std::string("compressed/") + name).string()).value();
    EXPECT_THAT(findings(*model), IsEmpty()) << name;
  }
}

TEST(VerifyTest, MetadataThatClientsWouldTakeAnotherWayIsAnError) {
  std::string config = test::read_bytes(golden("compressed/w4_g64_asym/config.json"));
  const auto replace = [&](const std::string& from, const std::string& to) {
    std::string text = config;
    text.replace(text.find(from), from.size(), to);
    const TemporaryFolder folder;
    write_bytes(folder / "config.json", text);
    std::filesystem::copy(golden("compressed/w4_g64_asym/model.safetensors"), folder / "model.safetensors");
    return findings(*Checkpoint::open(folder.path().string()).value());
  };
  EXPECT_THAT(replace("\"compressed\"", "\"frozen\""), ElementsAre(HasSubstr("random ones otherwise")));
  EXPECT_THAT(replace("\"lm_head\"", "\"embed\""),
              ElementsAre(HasSubstr("module lm_head: quantization_config says it is quantized (group_0)")));
  EXPECT_THAT(replace("\"group_size\": 64", "\"group_size\": 16"),
              ::testing::Contains(HasSubstr("module model.layers.0.mlp.down_proj: ")));
}

TEST(VerifyTest, TheClaimsOfTheIndexAreChecked) {
  const TemporaryFolder folder;
  ASSERT_TRUE(
      write_safetensors_file(folder / "m.safetensors", {{"a", f32({1}, {1})}, {"b", f32({1}, {1})}}).ok());
  write_bytes(folder / "model.safetensors.index.json",
              R"({"metadata": {"total_size": 9}, "weight_map": {"a": "m.safetensors"}})");
  EXPECT_THAT(findings(*Checkpoint::open(folder.path().string()).value()),
              ElementsAre(HasSubstr("warning tensor b: it stands in m.safetensors but not in the index"),
                          HasSubstr("total_size is 9, the tensors have 8 bytes")));
}

}  // namespace
}  // namespace nibble
