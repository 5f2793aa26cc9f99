// SPDX-License-Identifier: Apache-2.0
// What the reference wrote is read: metadata to the byte, weights to the bit.
#include "checkpoint/quantized_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>

#include "base/hash.h"
#include "base/json.h"
#include "checkpoint/sharded_writer.h"
#include "test_files.h"

namespace nibble {
namespace {

using test::golden;
using test::read_bytes;
using test::TemporaryFolder;
using test::write_bytes;
using ::testing::HasSubstr;

Json parsed(std::string_view text) {
  return parse_json(text).value();
}

std::vector<std::filesystem::path> reference_configs() {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(golden("compressed"))) {
    const std::string name = entry.path().filename();
    if (name == "config.json" || entry.path().parent_path().filename() == "configs")
      paths.push_back(entry.path());
  }
  return paths;
}

TEST(QuantizationConfigTest, EveryReferenceConfigIsWrittenBackToTheByte) {
  const auto paths = reference_configs();
  EXPECT_GT(paths.size(), 40U);
  for (const auto& path : paths) {
    const std::string text = read_bytes(path);
    const Json json = parsed(text);
    const auto config = read_quantization_config(json);
    ASSERT_TRUE(config.ok()) << path << config.error().message();
    ASSERT_TRUE(config->has_value());
    EXPECT_EQ(config_text(json, &**config), text) << path;
  }
}

class QuantizedFolderTest : public ::testing::TestWithParam<std::string> {};

TEST_P(QuantizedFolderTest, DecodesToTheWeightsOfTheReference) {
  ThreadPool pool(2);
  auto model = decompressed(Checkpoint::open(golden("compressed/" + GetParam()).string()).value(), pool);
  ASSERT_TRUE(model.ok()) << model.error().message();
  const Json hashes =
      read_json_file(golden("compressed/" + GetParam() + "/golden_dequant_sha256.json")).value();
  EXPECT_EQ((*model)->tensors().size(), hashes.size());
  EXPECT_FALSE((*model)->config().contains("quantization_config"));
  for (const auto& [live_name, wanted] : hashes.items()) {
    std::string name = live_name;  // the live Mixtral calls its experts mlp, the files block_sparse_moe
    const auto mlp = GetParam().starts_with("mixtral") ? name.find(".mlp.") : std::string::npos;
    if (mlp != std::string::npos) name.replace(mlp, 5, ".block_sparse_moe.");
    const auto tensor = (*model)->load(name);
    ASSERT_TRUE(tensor.ok()) << tensor.error().message();
    EXPECT_EQ(torch_name(tensor->dtype()), wanted[0].get<std::string>()) << name;
    EXPECT_EQ(sha256_hex(tensor->bytes()).substr(0, 16), wanted[1].get<std::string>()) << name;
    EXPECT_EQ((*model)->find(name)->shape, tensor->shape()) << name;
    EXPECT_EQ((*model)->find(name)->dtype, tensor->dtype()) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Schemes, QuantizedFolderTest,
                         ::testing::Values("mixed", "w4_g64_asym", "w3_g64", "mxfp4", "mxfp8",
                                           "w8_tensor_asym", "with_lm_head_and_embed", "kv_cache_head_w8a8",
                                           "fp8_weight_only", "dense_uncompressed", "mixtral_w4_g32"));

// What reports on whole models read: weights of every format, a few rows at a time.
TEST_P(QuantizedFolderTest, BlocksOfRowsAreTheWhole) {
  ThreadPool pool(2);
  const auto model =
      decompressed(Checkpoint::open(golden("compressed/" + GetParam()).string()).value(), pool).value();
  for (const TensorInfo& info : model->tensors()) {
    const auto whole = model->load(info.name);
    ASSERT_TRUE(whole.ok()) << whole.error().message();
    std::vector<std::byte> joined;
    std::int64_t blocks = 0;
    const std::int64_t elements = 3 * info.shape.back();
    const Status status = model->for_row_blocks(info.name, elements, [&](const Tensor& rows) -> Status {
      EXPECT_EQ(rows.dtype(), whole->dtype());
      joined.insert(joined.end(), rows.bytes().begin(), rows.bytes().end());
      ++blocks;
      return {};
    });
    ASSERT_TRUE(status.ok()) << status.error().message();
    EXPECT_TRUE(std::ranges::equal(joined, whole->bytes())) << info.name;
    const bool is_packed = !dtype_from_safetensors(info.stored_as).has_value() && info.stored_as != "dense";
    if (!is_packed) continue;
    EXPECT_EQ(blocks, (info.shape[0] + 2) / 3) << info.name << " " << info.stored_as;
  }
}

TEST(QuantizedCheckpointTest, GivesPackedWeightsAndTheirSchemes) {
  const auto model = Checkpoint::open(golden("compressed/mixed").string()).value();
  const auto quantized = QuantizedCheckpoint::open(*model);
  ASSERT_TRUE(quantized.ok()) << quantized.error().message();
  const QuantizedCheckpoint& q = **quantized;
  EXPECT_EQ(q.model_dtype(), DType::kBF16);
  EXPECT_EQ(q.modules().size(), 13U);
  const QuantizedModule* query = q.find("model.layers.0.self_attn.q_proj");
  ASSERT_NE(query, nullptr);
  EXPECT_EQ(query->format, CompressionFormat::kPackQuantized);
  EXPECT_EQ(q.scheme(*query).weights->num_bits, 4);
  EXPECT_EQ(query->rows, 64);
  const auto weight = q.load(*query);
  ASSERT_TRUE(weight.ok()) << weight.error().message();
  EXPECT_EQ(weight->cols(), 64);
  EXPECT_EQ(q.find("model.layers.0.mlp.gate_proj")->format, CompressionFormat::kNvfp4Pack);
  EXPECT_EQ(q.find("model.layers.0.self_attn.o_proj")->format, CompressionFormat::kFloatQuantized);
  EXPECT_EQ(q.find("model.layers.1.self_attn.o_proj"), nullptr) << "ignored";
  EXPECT_EQ(q.find("lm_head"), nullptr);
}

TEST(QuantizedCheckpointTest, ADenseModelIsNotQuantized) {
  const TemporaryFolder folder;
  write_bytes(folder / "config.json", R"({"model_type": "llama"})");
  ASSERT_TRUE(
      write_safetensors_file(folder / "model.safetensors", {{"a.weight", Tensor(DType::kF32, {1, 1})}}).ok());
  ThreadPool pool(1);
  auto model = Checkpoint::open(folder.path().string()).value();
  EXPECT_EQ(QuantizedCheckpoint::open(*model).value(), nullptr);
  const Checkpoint* same = model.get();
  EXPECT_EQ(decompressed(std::move(model), pool)->get(), same);
}

std::string refusal(const std::string& config, const std::vector<std::pair<std::string, Tensor>>& tensors) {
  const TemporaryFolder folder;
  write_bytes(folder / "config.json", config);
  EXPECT_TRUE(write_safetensors_file(folder / "model.safetensors", tensors).ok());
  const auto model = Checkpoint::open(folder.path().string()).value();
  const auto quantized = QuantizedCheckpoint::open(*model);
  return quantized.ok() ? "accepted" : quantized.error().message();
}

TEST(QuantizedCheckpointTest, TensorsThatNoGroupExplainsAreRefused) {
  const std::string config =
      R"({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {
      "W4A16": ["re:.*q_proj"]}, "format": "pack-quantized"}})";
  EXPECT_THAT(refusal(config, {{"k_proj.weight_packed", Tensor(DType::kI32, {1, 1})}}),
              HasSubstr("module k_proj: it is stored quantized, but no config group"));
  EXPECT_THAT(refusal(config, {{"q_proj.weight_scale", Tensor(DType::kF32, {1, 1})}}),
              HasSubstr("neither \"weight\""));
}

TEST(QuantizationConfigTest, OldAndNestedPlacesAndToleratedForms) {
  const auto in_text = read_quantization_config(parsed(
      R"({"text_config": {"quantization_config": {"config_groups": {"g": {"targets": ["Linear"],
          "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": true,
                      "actorder": true, "scale_dtype": "float16"}}}, "run_compressed": true}}})"));
  ASSERT_TRUE(in_text.ok()) << in_text.error().message();
  const QuantizationScheme& scheme = (*in_text)->groups[0].second;
  EXPECT_EQ(scheme.weights->actorder, ActOrder::kGroup);
  EXPECT_EQ(scheme.weights->scale_dtype, DType::kF16);
  EXPECT_FALSE(scheme.format.has_value());
  const auto old = read_quantization_config(parsed(
      R"({"compression_config": {"quantization_config": null, "config_groups": {"W8A8": ["Linear"]},
          "sparsity_config": {"format": "dense", "global_sparsity": 0.1}}})"));
  ASSERT_TRUE(old.ok()) << old.error().message();
  EXPECT_EQ((*old)->groups[0].second.weights->num_bits, 8);
  EXPECT_EQ((*old)->sparsity_format, "dense");
  EXPECT_FALSE(read_quantization_config(parsed("{}")).value().has_value());
}

std::string config_error(std::string_view quantization) {
  const auto read =
      read_quantization_config(parsed(fmt::format(R"({{"quantization_config": {}}})", quantization)));
  return read.ok() ? "accepted" : read.error().message();
}

TEST(QuantizationConfigTest, MistakesAreNamedWithTheirPlace) {
  EXPECT_THAT(config_error(R"({"quant_method": "gptq", "bits": 4})"),
              HasSubstr("quant_method \"gptq\" cannot be read"));
  EXPECT_THAT(config_error(R"([])"), HasSubstr("expected an object"));
  EXPECT_THAT(
      config_error(R"({"config_groups": {"g": {"targets": ["Linear"], "weights": {"num_bit": 4}}}})"),
      HasSubstr("config_groups: g: weights: the key \"num_bit\" is not known (did you mean num_bits?)"));
  EXPECT_THAT(config_error(R"({"config_groups": {"W4A61": ["Linear"]}})"), HasSubstr("did you mean W4A16"));
  EXPECT_THAT(config_error(R"({"config_groups": {"g": {"targets": "Linear"}}})"),
              HasSubstr("list of strings"));
  EXPECT_THAT(config_error(R"({"config_groups": {"g": {"targets": [], "weights": {"num_bits": 99}}}})"),
              HasSubstr("num_bits is 99"));
  EXPECT_THAT(config_error(R"({"config_groups": {"g": {"targets": [], "weights": {"strategy": "rows"}}}})"),
              HasSubstr("\"strategy\" is \"rows\""));
}

TEST(DecompressedTest, UnknownSparsityFormatsAreRefused) {
  EXPECT_THAT(
      refusal(
          R"({"quantization_config": {"config_groups": {}, "sparsity_config": {"format": "sparse-strange"}}})",
          {{"a.weight", Tensor(DType::kF32, {1, 1})}}),
      HasSubstr("sparse-strange"));
}

TEST(DecompressedTest, RotationsOfActivationsAreFoldedIntoTheWeights) {
  ThreadPool pool(2);
  const auto folder = golden("compressed/e2e-quip-uv-block32");
  auto model = decompressed(Checkpoint::open(folder.string()).value(), pool);
  ASSERT_TRUE(model.ok()) << model.error().message();
  const auto plain = Checkpoint::open((folder / "unrotated.safetensors").string()).value();
  EXPECT_EQ((*model)->tensors().size(), plain->tensors().size()) << "the matrices are no parameters";
  for (const TensorInfo& info : plain->tensors()) {
    const auto folded = (*model)->load(info.name);
    ASSERT_TRUE(folded.ok()) << folded.error().message();
    const std::vector<float> a = folded->to_f32();
    const std::vector<float> b = plain->load(info.name)->to_f32();
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 2e-7) << info.name;
  }
}

}  // namespace
}  // namespace nibble
