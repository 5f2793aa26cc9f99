// SPDX-License-Identifier: Apache-2.0
// Folders with sparse weights open as the model that they stand for; damaged ones are refused by name.
#include "checkpoint/sparse_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "base/json.h"
#include "checkpoint/quantized_checkpoint.h"
#include "checkpoint/sharded_writer.h"
#include "codec/sparse_format.h"
#include "test_files.h"

namespace nibble {
namespace {

using test::TemporaryFolder;
using test::write_bytes;
using ::testing::HasSubstr;

const std::vector<float> kValues{0, 5, 0, 7, 1, 0, 0, 2};  // 2 x 4

std::map<std::string, Tensor> parts_of(SparseFormat format, DType dtype = DType::kBF16) {
  std::map<std::string, Tensor> named;
  const auto parts = sparse_compress(Tensor::from_f32(dtype, {2, 4}, kValues), format).value();
  for (const auto& [suffix, tensor] : parts) named.emplace("layers.0.up." + suffix, tensor);
  named.emplace("norm.weight", Tensor::from_f32(dtype, {4}, std::vector<float>{1, 1, 1, 1}));
  return named;
}

void write_folder(const TemporaryFolder& folder, const std::string& config,
                  const std::map<std::string, Tensor>& tensors) {
  write_bytes(folder / "config.json", config);
  std::vector<std::pair<std::string, Tensor>> list(tensors.begin(), tensors.end());
  ASSERT_TRUE(write_safetensors_file(folder / "model.safetensors", list).ok());
}

std::string config_with(std::string_view format, const std::string& key = "quantization_config") {
  return fmt::format(
      R"({{"model_type": "x", "{}": {{"quant_method": "compressed-tensors", "version": "0.11.0",
      "sparsity_config": {{"format": "{}", "global_sparsity": 0.5, "targets": ["Linear"]}}}}}})",
      key, format);
}

TEST(SparseCheckpoint, OpensAsTheWeights) {
  for (const SparseFormat format : {SparseFormat::kBitmask, SparseFormat::kBitmask24, SparseFormat::kQuads}) {
    for (const char* key : {"quantization_config", "compression_config"}) {
      SCOPED_TRACE(std::string(to_string(format)) + " " + key);
      const TemporaryFolder folder;
      write_folder(folder, config_with(to_string(format), key), parts_of(format));
      const auto model = Checkpoint::open(folder.path().string());
      ASSERT_TRUE(model.ok()) << model.error().message();
      ASSERT_EQ((*model)->tensors().size(), 2u);
      const TensorInfo* info = (*model)->find("layers.0.up.weight");
      ASSERT_NE(info, nullptr);
      EXPECT_EQ(info->shape, (Shape{2, 4}));
      EXPECT_EQ(info->dtype, DType::kBF16);
      EXPECT_EQ(info->stored_as, to_string(format));
      EXPECT_EQ((*model)->load(info->name).value().to_f32(), kValues);
      EXPECT_FALSE((*model)->config().contains(key));
      ThreadPool pool(1);
      auto dense = decompressed(Checkpoint::open(folder.path().string()).value(), pool);
      ASSERT_TRUE(dense.ok());
      EXPECT_EQ((*dense)->load(info->name).value().to_f32(), kValues);
    }
  }
}

std::string refusal(const std::map<std::string, Tensor>& tensors,
                    std::string_view format = "sparse-bitmask") {
  const TemporaryFolder folder;
  write_folder(folder, config_with(format), tensors);
  const auto model = Checkpoint::open(folder.path().string());
  if (!model.ok()) return model.error().message();
  const auto weight = (*model)->load("layers.0.up.weight");
  return weight.ok() ? "accepted" : weight.error().message();
}

TEST(SparseCheckpoint, DamageIsRefusedByName) {
  const auto good = parts_of(SparseFormat::kBitmask);
  EXPECT_EQ(refusal(good), "accepted");
  for (const char* suffix : {"shape", "compressed", "row_offsets"}) {
    auto without = good;
    without.erase(std::string("layers.0.up.") + suffix);
    EXPECT_THAT(refusal(without), HasSubstr(fmt::format("module layers.0.up: {} is missing", suffix)));
  }
  auto both = good;
  both["layers.0.up.weight"] = Tensor(DType::kBF16, {2, 4});
  EXPECT_THAT(refusal(both), HasSubstr("a sparse weight and a dense one"));
  auto short_values = good;
  short_values["layers.0.up.compressed"] = Tensor(DType::kBF16, {3});
  EXPECT_THAT(refusal(short_values), HasSubstr("compressed has 3 values; the bitmask needs 4"));
  auto shape = good;
  shape["layers.0.up.shape"] = Tensor(DType::kF32, {2});
  EXPECT_THAT(refusal(shape), HasSubstr("shape must be two int64"));
  auto positions = parts_of(SparseFormat::kQuads);
  positions["layers.0.up.positions"] = Tensor(DType::kU8, {2, 1});
  EXPECT_THAT(refusal(positions, "nibble-24"), HasSubstr("they must ascend"));
}

TEST(SparseCheckpoint, AnUnknownFormatIsRefused) {
  const TemporaryFolder folder;
  write_folder(folder, config_with("sparse-newer"), parts_of(SparseFormat::kBitmask));
  ThreadPool pool(1);
  const auto model = decompressed(Checkpoint::open(folder.path().string()).value(), pool);
  ASSERT_FALSE(model.ok());
  EXPECT_THAT(model.error().message(), HasSubstr("sparse-newer"));
}

}  // namespace
}  // namespace nibble
