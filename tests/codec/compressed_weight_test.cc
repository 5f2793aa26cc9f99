// SPDX-License-Identifier: Apache-2.0
#include "codec/compressed_weight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/hash.h"
#include "base/rng.h"
#include "support/golden_args.h"
#include "support/golden_tensors.h"
#include "support/random_weight.h"

namespace nibble {
namespace {

using testing::golden_args;
using testing::golden_json;
using testing::GoldenTensors;
using ::testing::HasSubstr;
using testing::random_weight;
using testing::same_tensor;

struct Case {
  QuantizationArgs args;
  CompressionFormat format;
  std::string name;
};

// Every preset under its own format, and integers of every width and strategy under every format that holds
// them.
std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const std::string& name : preset_names()) {
    const QuantizationScheme scheme = *preset_scheme(name);
    if (scheme.weights) cases.push_back({*scheme.weights, default_format(scheme), name});
  }
  for (int bits = 1; bits <= 8; ++bits) {
    for (const bool symmetric : {true, false}) {
      for (const Strategy strategy :
           {Strategy::kTensor, Strategy::kChannel, Strategy::kGroup, Strategy::kBlock}) {
        QuantizationArgs args;
        args.num_bits = bits;
        args.symmetric = symmetric;
        args.strategy = strategy;
        if (strategy == Strategy::kGroup) args.group_size = 24;
        if (strategy == Strategy::kBlock) args.block_structure = {5, 40};
        EXPECT_TRUE(args.validate("weights").ok());
        for (const auto format : {CompressionFormat::kPackQuantized, CompressionFormat::kIntQuantized}) {
          cases.push_back({args, format, "int" + std::to_string(bits) + std::string(to_string(strategy))});
        }
      }
    }
  }
  return cases;
}

void expect_same(const std::map<std::string, Tensor>& expected, const std::map<std::string, Tensor>& found,
                 const std::string& name) {
  for (const auto& [suffix, tensor] : expected) {
    const auto at = found.find(suffix);
    if (at == found.end()) {
      ADD_FAILURE() << name << ": no " << suffix;
      continue;
    }
    EXPECT_TRUE(same_tensor(tensor, at->second)) << name << "." << suffix;
  }
  for (const auto& [suffix, tensor] : found)
    EXPECT_TRUE(expected.contains(suffix)) << name << ": extra " << suffix;
}

class Checkpoints : public ::testing::Test {
 protected:
  GoldenTensors golden_{"codec/compressed.safetensors"};
  Json index_ = golden_json("codec/compressed.json");
  ThreadPool pool_{2};

  std::map<std::string, Tensor> stored(const std::string& name) const {
    std::map<std::string, Tensor> out;
    for (const std::string& suffix : weight_suffixes()) {
      if (golden_.has(name + "." + suffix)) out.emplace(suffix, golden_.get(name + "." + suffix));
    }
    return out;
  }

  std::optional<float> shared_scale(const Json& entry) {
    if (entry["siblings"].empty()) return std::nullopt;
    ValueRange range;
    DType dtype = DType::kF32;
    for (const auto& sibling : entry["siblings"]) {
      const Tensor weight = golden_.get(sibling.get<std::string>());
      range.include(range_of(pool_, weight));
      dtype = weight.dtype();
    }
    return global_scale_of(dtype, range.min, range.max);
  }
};

// What llm-compressor wrote for these weights, tensor by tensor.
TEST_F(Checkpoints, RoundToNearestEqualsTheReference) {
  int compared = 0;
  for (const auto& [name, entry] : index_.items()) {
    if (entry["observer"] != "memoryless_minmax") continue;
    const QuantizationArgs args = golden_args(entry["weights"], "weights");
    const CompressionFormat format = *format_from_string(entry["format"].get<std::string>());
    const Tensor weight = golden_.get(entry["base"].get<std::string>());
    const std::optional<float> global = shared_scale(entry);
    const auto fused = CompressedWeight::round_to_nearest(pool_, weight, args, format, global);
    ASSERT_TRUE(fused.ok()) << name << ": " << fused.error().message();
    expect_same(stored(name), fused->tensors(), name);
    const auto params = min_max_params(pool_, weight, args, global);
    const auto plain = CompressedWeight::from_weight(pool_, weight, args, format, *params);
    ASSERT_TRUE(plain.ok());
    expect_same(stored(name), plain->tensors(), name);
    ++compared;
  }
  EXPECT_GT(compared, 150);
}

TEST_F(Checkpoints, DecompressesToTheBitsOfTheReference) {
  for (const auto& [name, entry] : index_.items()) {
    const QuantizationArgs args = golden_args(entry["weights"], "weights");
    const CompressionFormat format = *format_from_string(entry["format"].get<std::string>());
    const DType dtype = golden_.get(entry["base"].get<std::string>()).dtype();
    const auto weight = CompressedWeight::from_tensors(args, format, dtype, stored(name));
    ASSERT_TRUE(weight.ok()) << name << ": " << weight.error().message();
    const auto dense = weight->dense(pool_);
    ASSERT_TRUE(dense.ok());
    EXPECT_EQ(dense->dtype(), dtype);
    if (entry["dense"].is_string()) {
      EXPECT_EQ(sha256_hex(dense->bytes()).substr(0, 16), entry["dense"].get<std::string>()) << name;
    }
    if (format == CompressionFormat::kDense) continue;
    expect_same(stored(name), weight->tensors(), name);
    const auto again = CompressedWeight::from_codes(pool_, weight->codes(pool_).value(), args, format, dtype,
                                                    weight->params().value());
    ASSERT_TRUE(again.ok());
    expect_same(stored(name), again->tensors(), name);
  }
}

TEST_F(Checkpoints, PlansNameWhatIsStored) {
  for (const auto& [name, entry] : index_.items()) {
    const QuantizationArgs args = golden_args(entry["weights"], "weights");
    const CompressionFormat format = *format_from_string(entry["format"].get<std::string>());
    const Tensor weight = golden_.get(entry["base"].get<std::string>());
    const auto plan = stored_tensors(args, format, weight.dim(0), weight.dim(1), weight.dtype());
    ASSERT_TRUE(plan.ok());
    const auto tensors = stored(name);
    EXPECT_EQ(plan->size(), tensors.size()) << name;
    std::uint64_t bytes = 0;
    for (const StoredTensor& expected : *plan) {
      ASSERT_TRUE(tensors.contains(expected.suffix)) << name << " " << expected.suffix;
      const Tensor& found = tensors.at(expected.suffix);
      EXPECT_EQ(found.dtype(), expected.dtype) << name << " " << expected.suffix;
      EXPECT_EQ(found.shape(), expected.shape) << name << " " << expected.suffix;
      bytes += found.byte_size();
    }
    EXPECT_EQ(stored_bytes(args, format, weight.dim(0), weight.dim(1), weight.dtype()).value(), bytes);
  }
}

// One pass or two, any dtype, ragged shapes: the same bytes; and a reader gets the simulated weight back.
TEST(CompressedWeight, OnePassEqualsTwoAndReadsBack) {
  ThreadPool pool(3);
  ThreadPool alone(1);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const auto& [rows, cols] : {std::pair{7, 150}, {33, 64}, {1, 2}}) {
      const Tensor weight = random_weight(dtype, rows, cols, 3);
      for (const Case& c : all_cases()) {
        ErrorStats fused_stats;
        ErrorStats stats;
        const auto fused =
            CompressedWeight::round_to_nearest(pool, weight, c.args, c.format, std::nullopt, &fused_stats);
        ASSERT_TRUE(fused.ok()) << fused.error().message();
        const auto params = min_max_params(alone, weight, c.args).value();
        const auto plain = CompressedWeight::from_weight(alone, weight, c.args, c.format, params, &stats);
        ASSERT_TRUE(plain.ok()) << plain.error().message();
        expect_same(plain->tensors(), fused->tensors(), c.name);
        EXPECT_EQ(stats.sqnr_db(), fused_stats.sqnr_db()) << c.name;
        const auto read = CompressedWeight::from_tensors(c.args, c.format, dtype, plain->tensors());
        ASSERT_TRUE(read.ok()) << read.error().message();
        EXPECT_EQ(read->cols(), cols);
        EXPECT_EQ(read->dense(pool)->to_f32(), simulate_weight(pool, weight, c.args, params)->to_f32())
            << c.name;
      }
    }
  }
}

TEST(CompressedWeight, ErrorStatsMeasureWhatWasStored) {
  ThreadPool pool(2);
  const Tensor weight = random_weight(DType::kBF16, 40, 256, 5);
  ErrorStats stats;
  const QuantizationArgs args = *preset_scheme("W4A16")->weights;
  const auto compressed = CompressedWeight::round_to_nearest(
      pool, weight, args, CompressionFormat::kPackQuantized, std::nullopt, &stats);
  const std::vector<float> stored = compressed->dense(pool)->to_f32();
  const std::vector<float> original = weight.to_f32();
  double signal = 0, noise = 0, largest = 0;
  for (std::size_t i = 0; i < original.size(); ++i) {
    const double e = static_cast<double>(original[i]) - static_cast<double>(stored[i]);
    signal += static_cast<double>(original[i]) * static_cast<double>(original[i]);
    noise += e * e;
    largest = std::max(largest, std::fabs(e));
  }
  EXPECT_EQ(stats.count(), 40 * 256);
  EXPECT_NEAR(stats.sqnr_db(), 10 * std::log10(signal / noise), 1e-5);
  EXPECT_NEAR(stats.relative_error() / std::sqrt(noise / signal), 1, 1e-6);
  EXPECT_FLOAT_EQ(static_cast<float>(stats.max_error()), static_cast<float>(largest));
  EXPECT_NEAR(stats.mse() / (noise / (40 * 256)), 1, 1e-6);
  EXPECT_TRUE(std::isnan(ErrorStats().sqnr_db()));
}

TEST(CompressedWeight, GroupIndexIsStoredAndRead) {
  ThreadPool pool(1);
  QuantizationArgs args;
  args.num_bits = 4;
  args.group_size = 16;
  args.actorder = ActOrder::kGroup;
  ASSERT_TRUE(args.validate("weights").ok());
  const Tensor weight = random_weight(DType::kBF16, 6, 64, 7);
  std::vector<std::int32_t> g_idx(64);
  for (std::size_t c = 0; c < 64; ++c) g_idx[c] = static_cast<std::int32_t>(c % 4);
  const auto ranges = observe_ranges(pool, weight, args, g_idx);
  const auto params = params_from_ranges(args, DType::kBF16, 6, 64, ranges, std::nullopt, g_idx).value();
  const auto compressed =
      CompressedWeight::from_weight(pool, weight, args, CompressionFormat::kPackQuantized, params).value();
  EXPECT_EQ(compressed.tensor("weight_g_idx").dtype(), DType::kI32);
  QuantizationArgs reader = args;  // readers find the tensor even where the arguments are silent
  reader.actorder.reset();
  const auto read = CompressedWeight::from_tensors(reader, CompressionFormat::kPackQuantized, DType::kBF16,
                                                   compressed.tensors());
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->dense(pool)->to_f32(), simulate_weight(pool, weight, args, params)->to_f32());
}

class DamagedTensors : public ::testing::Test {
 protected:
  ThreadPool pool_{1};
  Tensor weight_ = random_weight(DType::kBF16, 10, 48, 11);

  std::map<std::string, Tensor> good(const Case& c) {
    return CompressedWeight::round_to_nearest(pool_, weight_, c.args, c.format)->tensors();
  }
  std::string error(const Case& c, std::map<std::string, Tensor> tensors) {
    const auto read = CompressedWeight::from_tensors(c.args, c.format, DType::kBF16, std::move(tensors));
    return read.ok() ? "" : read.error().message();
  }
};

TEST_F(DamagedTensors, EveryMissingOrMisshapenTensorIsNamed) {
  for (const Case& c : all_cases()) {
    const auto tensors = good(c);
    EXPECT_EQ(error(c, tensors), "") << c.name;
    for (const auto& [suffix, tensor] : tensors) {
      if (suffix == "weight_shape" || suffix == "weight_g_idx") continue;
      auto without = tensors;
      without.erase(suffix);
      EXPECT_THAT(error(c, without), HasSubstr(suffix)) << c.name;
      auto wrong_dtype = tensors;
      wrong_dtype[suffix] = Tensor(DType::kF64, tensor.shape());
      EXPECT_THAT(error(c, wrong_dtype), HasSubstr(suffix)) << c.name;
      auto wrong_shape = tensors;
      Shape shape = tensor.shape();
      (suffix == "weight_packed" ? shape.front() : shape.back()) += 1;  // wider rows could be the old packing
      wrong_shape[suffix] = Tensor(tensor.dtype(), shape);
      if (suffix != "weight") {  // another width of plain codes is another weight; then the scales do not fit
        EXPECT_NE(error(c, wrong_shape), "") << c.name << " " << suffix;
      }
    }
  }
}

TEST_F(DamagedTensors, ShapesFromAFileAreNotTrusted) {
  const Case c{*preset_scheme("W4A16")->weights, CompressionFormat::kPackQuantized, "W4A16"};
  const auto tensors = good(c);
  const std::vector<std::vector<std::int64_t>> bad_shapes{{11, 48}, {10, -1},  {10, 1 << 30},
                                                          {10, 49}, {-10, 48}, {10, std::int64_t{1} << 62}};
  for (const auto& dims : bad_shapes) {
    auto damaged = tensors;
    damaged["weight_shape"] = Tensor::of<std::int64_t>(DType::kI64, {2}, std::span(dims));
    EXPECT_NE(error(c, damaged), "") << dims[0] << " " << dims[1];
  }
  auto three = tensors;
  three["weight_shape"] = Tensor(DType::kI64, {3});
  EXPECT_NE(error(c, three), "");
  auto one_dim = tensors;
  one_dim["weight_packed"] = Tensor(DType::kI32, {60});
  EXPECT_NE(error(c, one_dim), "");
  auto without = tensors;
  without.erase("weight_shape");
  EXPECT_EQ(error(c, without), "") << "48 columns are whole words";
}

TEST_F(DamagedTensors, GlobalScaleMustDivide) {
  const Case c{*preset_scheme("NVFP4A16")->weights, CompressionFormat::kNvfp4Pack, "NVFP4A16"};
  auto tensors = good(c);
  for (const float bad : {0.0f, INFINITY, std::nanf("")}) {
    tensors["weight_global_scale"] = Tensor::from_f32(DType::kF32, {1}, std::span(&bad, 1));
    EXPECT_THAT(error(c, tensors), HasSubstr("weight_global_scale"));
  }
}

TEST_F(DamagedTensors, LeftoversOfOtherToolsAreTolerated) {
  const Case c{*preset_scheme("W8A8")->weights, CompressionFormat::kIntQuantized, "W8A8"};
  auto tensors = good(c);
  tensors["weight_zero_point"] = Tensor(DType::kI8, {10, 1});  // zeros of a symmetric weight
  tensors["weight_scale"] = tensors["weight_scale"].reshaped({10});
  EXPECT_EQ(error(c, tensors), "");
  const auto read = CompressedWeight::from_tensors(c.args, c.format, DType::kBF16, tensors).value();
  EXPECT_FALSE(read.tensors().contains("weight_zero_point"));
  EXPECT_EQ(read.tensor("weight_scale").shape(), (Shape{10, 1}));
}

TEST(CompressedWeight, WhatCannotBeStoredIsAnError) {
  ThreadPool pool(1);
  const QuantizationArgs nvfp4 = *preset_scheme("NVFP4A16")->weights;
  EXPECT_FALSE(stored_tensors(nvfp4, CompressionFormat::kNvfp4Pack, 4, 33, DType::kBF16).ok());
  const Tensor cube(DType::kBF16, {2, 3, 4});
  const QuantizationArgs w8 = *preset_scheme("W8A8")->weights;
  EXPECT_FALSE(CompressedWeight::round_to_nearest(pool, cube, w8, CompressionFormat::kIntQuantized).ok());
  std::vector<float> values(32, 1.0f);
  values[20] = std::nanf("");
  const Tensor bad = Tensor::from_f32(DType::kBF16, {4, 8}, values);
  const auto refused = CompressedWeight::round_to_nearest(pool, bad, w8, CompressionFormat::kIntQuantized);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message(), HasSubstr("row 2"));
}

}  // namespace
}  // namespace nibble
