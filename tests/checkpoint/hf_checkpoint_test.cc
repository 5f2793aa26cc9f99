// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/hf_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/json.h"
#include "test_files.h"

namespace nibble {
namespace {

using test::safetensors_bytes;
using test::TemporaryFolder;
using test::write_bytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::string floats(std::initializer_list<float> values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), std::data(values), bytes.size());
  return bytes;
}

std::string message_of(const std::filesystem::path& model, const Checkpoint::OpenOptions& options = {}) {
  const auto opened = Checkpoint::open(model.string(), options);
  return opened.ok() ? "opened" : opened.error().message();
}

TEST(HfCheckpointTest, ReadsASingleFileFolder) {
  const TemporaryFolder folder;
  write_bytes(folder / "config.json", R"({"model_type": "llama"})");
  write_bytes(folder / "tokenizer.json", "{}");
  write_bytes(folder / ".gitattributes", "");
  write_bytes(folder / "model.safetensors",
              safetensors_bytes(R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},
                                    "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})",
                                floats({1.5F, 2.5F, -3.0F})));
  auto opened = Checkpoint::open(folder.path().string());
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  const Checkpoint& checkpoint = **opened;
  EXPECT_EQ(checkpoint.config()["model_type"], "llama");
  ASSERT_EQ(checkpoint.tensors().size(), 2U);
  EXPECT_EQ(checkpoint.tensors()[0].name, "a");
  EXPECT_EQ(checkpoint.find("b")->stored_bytes, 8U);
  EXPECT_EQ(checkpoint.find("c"), nullptr);
  EXPECT_THAT(checkpoint.load("b")->to_f32(), ElementsAre(2.5F, -3.0F));
  EXPECT_THAT(checkpoint.load("a")->to_f32(), ElementsAre(1.5F));
  checkpoint.release("b");
  EXPECT_THAT(checkpoint.load("b")->to_f32(), ElementsAre(2.5F, -3.0F));
  EXPECT_THAT(checkpoint.companion_files(), ElementsAre(folder / "tokenizer.json"));
}

TEST(HfCheckpointTest, CopiesTensorsThatAreNotAlignedForTheirType) {
  const TemporaryFolder folder;
  for (const std::string_view padding : {"", " ", "  ", "   "}) {
    const std::string header =
        R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})" + std::string(padding);
    write_bytes(folder / "x.safetensors", safetensors_bytes(header, floats({1.0F, 2.0F})));
    auto opened = Checkpoint::open((folder / "x.safetensors").string());
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    const auto tensor = (*opened)->load("a");
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor->bytes().data()) % 4, 0U);
    EXPECT_EQ(tensor->is_owned(), (8 + header.size()) % 4 != 0);
    EXPECT_THAT(tensor->to_f32(), ElementsAre(1.0F, 2.0F));
    EXPECT_TRUE((*opened)->config().is_null());
  }
}

TEST(HfCheckpointTest, ReadsShardsInTheOrderOfFiles) {
  const TemporaryFolder folder;
  write_bytes(folder / "model.safetensors.index.json",
              R"({"metadata":{"total_size":8},"weight_map":{"z":"m-1.safetensors","a":"m-2.safetensors"}})");
  // `a` also stands in the first shard: the index says which one counts.
  write_bytes(folder / "m-1.safetensors",
              safetensors_bytes(R"({"z":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
                                    "a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                                floats({1, 2})));
  write_bytes(folder / "m-2.safetensors",
              safetensors_bytes(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", floats({3})));
  auto opened = Checkpoint::open(folder.path().string());
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  ASSERT_EQ((*opened)->tensors().size(), 2U);
  EXPECT_EQ((*opened)->tensors()[0].name, "z");
  EXPECT_EQ((*opened)->tensors()[1].file, "m-2.safetensors");
  EXPECT_THAT((*opened)->load("a")->to_f32(), ElementsAre(3.0F));
}

TEST(HfCheckpointTest, ViewsOutliveTheCheckpoint) {
  const TemporaryFolder folder;
  write_bytes(folder / "x.safetensors",
              safetensors_bytes(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  )", floats({7})));
  Tensor tensor;
  {
    auto opened = Checkpoint::open((folder / "x.safetensors").string());
    tensor = *(*opened)->load("a");
  }
  EXPECT_THAT(tensor.to_f32(), ElementsAre(7.0F));
}

TEST(HfCheckpointTest, AnUnknownTensorIsAnErrorWithTheNearestName) {
  const TemporaryFolder folder;
  write_bytes(folder / "x.safetensors",
              safetensors_bytes(R"({"lm_head.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                                floats({7})));
  auto opened = Checkpoint::open((folder / "x.safetensors").string());
  const auto loaded = (*opened)->load("lm_head.weigth");
  ASSERT_FALSE(loaded.ok());
  EXPECT_THAT(loaded.error().message(), HasSubstr("did you mean lm_head.weight?"));
}

TEST(HfCheckpointTest, FoldersWithoutWeightsSayWhatTheyHoldAndTheWayOut) {
  const TemporaryFolder pickle, adapter, other, nothing;
  write_bytes(pickle / "config.json", "{}");
  write_bytes(pickle / "pytorch_model.bin", "PK");
  EXPECT_THAT(message_of(pickle.path()), HasSubstr("stored as pickle (pytorch_model.bin)"));
  EXPECT_THAT(message_of(pickle.path()), HasSubstr("safe_serialization=True"));
  write_bytes(adapter / "adapter_model.safetensors", "");
  EXPECT_THAT(message_of(adapter.path()), HasSubstr("LoRA"));
  write_bytes(other / "consolidated.safetensors", "");
  EXPECT_THAT(message_of(other.path()), HasSubstr("only consolidated.safetensors"));
  EXPECT_THAT(message_of(nothing.path()), HasSubstr("no weights"));
  EXPECT_THAT(message_of(nothing / "absent/x/y"), HasSubstr("does not exist"));
}

TEST(HfCheckpointTest, OnlyANeighbourWithAnAlikeNameIsAHint) {
  const TemporaryFolder folder;
  write_bytes(folder / "note.md", "");
  EXPECT_THAT(message_of(folder / "notes.md"), HasSubstr("did you mean " + (folder / "note.md").string()));
  EXPECT_THAT(message_of(folder / "nothing"), Not(HasSubstr("did you mean")));
}

TEST(HfCheckpointTest, AConfigThatIsNoObjectIsRefused) {
  const TemporaryFolder folder;
  write_bytes(folder / "config.json", "[]");
  EXPECT_THAT(message_of(folder.path()), HasSubstr("file config.json: expected a JSON object"));
  write_bytes(folder / "config.json", "{\"a\": ");
  EXPECT_THAT(message_of(folder.path()), HasSubstr("file config.json: invalid JSON at line 1"));
}

TEST(HubCacheTest, FindsTheSnapshotOfARevisionAndTellsHowToFetchAMissingModel) {
  const TemporaryFolder cache;
  const std::string one = safetensors_bytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x");
  write_bytes(cache / "models--org--name/refs/main", "abc123\n");
  write_bytes(cache / "models--org--name/snapshots/abc123/model.safetensors", one);
  write_bytes(cache / "models--org--name/snapshots/def456/model.safetensors", one);
  write_bytes(cache / "models--gpt2/snapshots/aaa/model.safetensors", one);
  const Checkpoint::OpenOptions options{.hub_cache = cache.path()};
  EXPECT_EQ((*Checkpoint::open("org/name", options))->path(), cache / "models--org--name/snapshots/abc123");
  EXPECT_EQ((*Checkpoint::open("org/name@def456", options))->path(),
            cache / "models--org--name/snapshots/def456");
  EXPECT_EQ((*Checkpoint::open("gpt2", options))->path(), cache / "models--gpt2/snapshots/aaa");
  EXPECT_THAT(message_of("org/other", options), HasSubstr("hf download org/other"));
  EXPECT_THAT(message_of("org/other"), HasSubstr("hf download org/other"));
  EXPECT_THAT(message_of("org/name@v2", options), HasSubstr("hf download org/name --revision v2"));
  EXPECT_THAT(message_of("org/name@../x", options), HasSubstr("does not exist"));
}

}  // namespace
}  // namespace nibble
