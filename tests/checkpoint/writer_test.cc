// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>

#include "base/hash.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/sharded_writer.h"
#include "test_files.h"

namespace nibble {
namespace {

using test::TemporaryFolder;
using ::testing::HasSubstr;

// Tensors of every type with odd sizes, empty ones and scalars.
std::vector<std::pair<std::string, Tensor>> random_tensors(std::uint32_t seed, int count) {
  std::mt19937 random(seed);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (int i = 0; i < count; ++i) {
    const auto dtype = static_cast<DType>(random() % (static_cast<unsigned>(DType::kBool) + 1));
    Shape shape;
    for (std::uint32_t rank = random() % 4; rank > 0; --rank)
      shape.push_back(static_cast<std::int64_t>(random() % 7));
    Tensor tensor(dtype, shape);
    for (std::byte& b : tensor.mutable_bytes()) b = static_cast<std::byte>(random());
    tensors.emplace_back("block." + std::to_string(i) + ".\"weight\"\n\xc3\xa9", std::move(tensor));
  }
  return tensors;
}

std::vector<PlannedTensor> planned(const std::vector<std::pair<std::string, Tensor>>& tensors) {
  std::vector<PlannedTensor> plan;
  for (const auto& [name, tensor] : tensors) plan.push_back({name, tensor.dtype(), tensor.shape()});
  return plan;
}

void expect_equal(const Checkpoint& read, const std::vector<std::pair<std::string, Tensor>>& written) {
  ASSERT_EQ(read.tensors().size(), written.size());
  for (const auto& [name, tensor] : written) {
    const auto loaded = read.load(name);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    EXPECT_EQ(loaded->dtype(), tensor.dtype());
    EXPECT_EQ(loaded->shape(), tensor.shape());
    EXPECT_TRUE(std::ranges::equal(loaded->bytes(), tensor.bytes())) << name;
    EXPECT_FALSE(loaded->is_owned()) << "the writer aligns every tensor";
  }
}

std::uint64_t folder_bytes(const std::filesystem::path& folder) {
  std::uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) bytes += entry.file_size();
  return bytes;
}

TEST(ShardedWriterTest, WhatIsWrittenInAnyOrderIsReadBackWhateverTheShardSize) {
  for (const std::uint64_t shard_bytes :
       {std::uint64_t{0}, std::uint64_t{100}, std::uint64_t{1000}, std::uint64_t{1} << 40}) {
    const TemporaryFolder folder;
    auto tensors = random_tensors(static_cast<std::uint32_t>(shard_bytes) + 1, 40);
    const auto plan =
        WritePlan::make(planned(tensors), {.max_shard_bytes = shard_bytes, .metadata = {{"format", "pt"}}});
    ASSERT_TRUE(plan.ok());
    auto writer = ShardedWriter::create(*plan, folder.path());
    ASSERT_TRUE(writer.ok()) << writer.error().message();
    std::shuffle(tensors.begin(), tensors.end(), std::mt19937(7));
    ThreadPool pool(3);
    pool.parallel_for(40, 1, [&](std::int64_t first, std::int64_t) {
      const auto& [name, tensor] = tensors[static_cast<std::size_t>(first)];
      EXPECT_TRUE((*writer)->write(name, tensor).ok());
    });
    ASSERT_TRUE((*writer)->finish().ok());
    EXPECT_EQ(folder_bytes(folder.path()), plan->exact_bytes());
    auto read = Checkpoint::open(folder.path().string());
    ASSERT_TRUE(read.ok()) << read.error().message();
    expect_equal(**read, tensors);
  }
}

TEST(ShardedWriterTest, ManyThreadsLoseNothingOfMoreThanMayBeLeftToOne) {
  std::vector<std::pair<std::string, Tensor>> tensors;  // 48 MB
  for (int i = 0; i < 24; ++i) {
    Tensor tensor(DType::kI32, {512, 1024});
    std::ranges::fill(tensor.as_mutable<std::int32_t>(), i);
    tensors.emplace_back("t" + std::to_string(i), std::move(tensor));
  }
  const TemporaryFolder folder;
  WritePlan plan = WritePlan::make_single_file(planned(tensors), "model.safetensors", {}).value();
  const auto writer = ShardedWriter::create(std::move(plan), folder.path()).value();
  ThreadPool pool(4);
  std::atomic<int> failed{0};
  pool.parallel_for(static_cast<std::int64_t>(tensors.size()), 1, [&](std::int64_t first, std::int64_t) {
    const auto& [name, tensor] = tensors[static_cast<std::size_t>(first)];
    if (!writer->write(name, tensor).ok()) ++failed;
  });
  EXPECT_EQ(failed, 0);
  for (const auto& [name, tensor] : tensors) EXPECT_TRUE(writer->is_finished(name)) << name;
  ASSERT_TRUE(writer->finish().ok());
  expect_equal(*Checkpoint::open((folder / "model.safetensors").string()).value(), tensors);
}

TEST(WritePlanTest, ShardsAreNamedAndFilledInOrderAndTheIndexIsAsTransformersWritesIt) {
  const std::vector<PlannedTensor> tensors{
      {"b", DType::kU8, {3}}, {"a", DType::kF32, {2}}, {"c", DType::kU8, {1}}};
  const auto plan = WritePlan::make(tensors, {.max_shard_bytes = 11, .metadata = {{"format", "pt"}}});
  ASSERT_TRUE(plan.ok());
  ASSERT_EQ(plan->shards().size(), 2U);
  EXPECT_EQ(plan->shards()[1].file, "model-00002-of-00002.safetensors");
  EXPECT_EQ(plan->shards()[0].header.substr(8),
            R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
            R"("b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}}      )");
  EXPECT_EQ(plan->shards()[0].header.size() % 8, 0U);
  EXPECT_EQ(
      plan->index_json(),
      "{\n  \"metadata\": {\n    \"total_size\": 12\n  },\n  \"weight_map\": {\n"
      "    \"a\": \"model-00001-of-00002.safetensors\",\n    \"b\": \"model-00001-of-00002.safetensors\",\n"
      "    \"c\": \"model-00002-of-00002.safetensors\"\n  }\n}\n");
}

TEST(WritePlanTest, TwoTensorsOfOneNameAreRefused) {
  const auto plan = WritePlan::make({{"a", DType::kU8, {1}}, {"a", DType::kU8, {1}}}, {});
  ASSERT_FALSE(plan.ok());
  EXPECT_THAT(plan.error().message(), HasSubstr("two tensors called a"));
}

TEST(ShardedWriterTest, AnIncompleteOutputIsNotFinished) {
  const TemporaryFolder folder;
  auto writer = ShardedWriter::create(*WritePlan::make({{"a", DType::kU8, {4}}}, {}), folder.path());
  const std::vector<std::byte> half(2);
  ASSERT_TRUE((*writer)->write_part("a", 2, half).ok());
  EXPECT_FALSE((*writer)->is_finished("a"));
  const Status unfinished = (*writer)->finish();
  ASSERT_FALSE(unfinished.ok());
  EXPECT_THAT(unfinished.error().message(), HasSubstr("2 bytes of tensor a"));
  ASSERT_TRUE((*writer)->write_part("a", 0, half).ok());
  EXPECT_TRUE((*writer)->finish().ok());
}

TEST(ShardedWriterTest, ATensorOtherThanPlannedIsRefused) {
  const TemporaryFolder folder;
  auto writer = ShardedWriter::create(*WritePlan::make({{"a", DType::kU8, {4}}}, {}), folder.path());
  EXPECT_THAT((*writer)->write("a", Tensor(DType::kU8, {2, 2})).error().message(),
              HasSubstr("planned as U8 [4]"));
  EXPECT_THAT((*writer)->write("b", Tensor(DType::kU8, {4})).error().message(), HasSubstr("not in the plan"));
}

TEST(ShardedWriterTest, AResumedRunKeepsFinishedTensorsAndGivesTheSameBytes) {
  const TemporaryFolder whole, stopped;
  const auto tensors = random_tensors(5, 20);
  const auto plan = WritePlan::make(planned(tensors), {.max_shard_bytes = 300, .metadata = {}});
  auto undisturbed = ShardedWriter::create(*plan, whole.path());
  for (const auto& [name, tensor] : tensors) ASSERT_TRUE((*undisturbed)->write(name, tensor).ok());
  ASSERT_TRUE((*undisturbed)->finish().ok());
  {
    auto writer = ShardedWriter::create(*plan, stopped.path());
    for (std::size_t i = 0; i < 10; ++i)
      ASSERT_TRUE((*writer)->write(tensors[i].first, tensors[i].second).ok());
    ASSERT_TRUE((*writer)->sync().ok());
  }
  auto resumed = ShardedWriter::resume(*plan, stopped.path());
  ASSERT_TRUE(resumed.ok()) << resumed.error().message();
  for (std::size_t i = 0; i < 20; ++i) {
    const auto& [name, tensor] = tensors[i];
    if (i < 10) {
      EXPECT_EQ(*(*resumed)->stored_hash(name), xxh64(tensor.bytes()));
      (*resumed)->mark_finished(name);
    } else {
      ASSERT_TRUE((*resumed)->write(name, tensor).ok());
    }
  }
  ASSERT_TRUE((*resumed)->finish().ok());
  for (const auto& entry : std::filesystem::directory_iterator(whole.path())) {
    EXPECT_EQ(test::read_bytes(entry.path()), test::read_bytes(stopped.path() / entry.path().filename()));
  }
}

TEST(ShardedWriterTest, ResumingAnotherPlanIsRefused) {
  const TemporaryFolder folder;
  { auto writer = ShardedWriter::create(*WritePlan::make({{"a", DType::kU8, {4}}}, {}), folder.path()); }
  const auto resumed = ShardedWriter::resume(*WritePlan::make({{"b", DType::kU8, {4}}}, {}), folder.path());
  ASSERT_FALSE(resumed.ok());
  EXPECT_THAT(resumed.error().message(), HasSubstr("does not belong to this plan"));
}

TEST(WriteSafetensorsFileTest, RoundTrips) {
  const TemporaryFolder folder;
  const auto tensors = random_tensors(9, 15);
  ASSERT_TRUE(write_safetensors_file(folder / "x.safetensors", tensors).ok());
  auto read = Checkpoint::open((folder / "x.safetensors").string());
  ASSERT_TRUE(read.ok()) << read.error().message();
  expect_equal(**read, tensors);
  EXPECT_FALSE(std::filesystem::exists(folder / "x.safetensors.partial"));
  EXPECT_THAT(write_safetensors_file(folder / "no/such/x.safetensors", tensors).error().message(),
              HasSubstr("cannot create"));
}

}  // namespace
}  // namespace nibble
