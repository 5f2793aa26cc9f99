// SPDX-License-Identifier: Apache-2.0
#include "codec/scheme.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nibble {
namespace {

using ::testing::HasSubstr;

QuantizationArgs args_with(void (*change)(QuantizationArgs&)) {
  QuantizationArgs args;
  change(args);
  return args;
}

TEST(Scheme, StrategyIsInferredFromGroupSize) {
  const std::pair<std::optional<std::int64_t>, Strategy> cases[] = {
      {std::nullopt, Strategy::kTensor}, {64, Strategy::kGroup}, {-1, Strategy::kChannel}};
  for (const auto& [size, expected] : cases) {
    QuantizationArgs args;
    args.group_size = size;
    ASSERT_TRUE(args.validate("weights").ok());
    EXPECT_EQ(args.strategy, expected);
    EXPECT_EQ(args.group_size, size);  // -1 is kept: it is written back as the user gave it
  }
}

TEST(Scheme, ObserverAndZeroPointDefaults) {
  QuantizationArgs args;
  ASSERT_TRUE(args.validate("weights").ok());
  EXPECT_EQ(args.observer, "memoryless_minmax");
  EXPECT_EQ(args.zp_dtype, std::nullopt);

  args = args_with([](QuantizationArgs& a) { a.symmetric = false; });
  ASSERT_TRUE(args.validate("weights").ok());
  EXPECT_EQ(args.zp_dtype, DType::kI8);

  args = args_with([](QuantizationArgs& a) {
    a.strategy = Strategy::kToken;
    a.dynamic = Dynamic::kTrue;
    a.observer = "memoryless";
  });
  ASSERT_TRUE(args.validate("input_activations").ok());
  EXPECT_EQ(args.observer, std::nullopt);

  QuantizationArgs local = *preset_scheme("nvfp4")->input_activations;
  local.observer.reset();
  ASSERT_TRUE(local.validate("input_activations").ok());
  EXPECT_EQ(local.observer, "minmax");
}

TEST(Scheme, EveryRuleHasAnErrorThatNamesItsPlace) {
  struct Broken {
    std::string_view field;
    void (*change)(QuantizationArgs&);
    std::string_view message;
  };
  const Broken cases[] = {
      {"weights", [](QuantizationArgs& a) { a.num_bits = 9; }, "num_bits is 9"},
      {"weights", [](QuantizationArgs& a) { a.num_bits = 0; }, "num_bits is 0"},
      {"weights", [](QuantizationArgs& a) { a.type = NumberType::kFloat, a.num_bits = 6; }, "4 and 8"},
      {"weights", [](QuantizationArgs& a) { a.type = NumberType::kFloat, a.symmetric = false; },
       "zero point"},
      {"weights", [](QuantizationArgs& a) { a.group_size = -2; }, "group_size is -2"},
      {"weights", [](QuantizationArgs& a) { a.group_size = 0; }, "group_size is 0"},
      {"weights", [](QuantizationArgs& a) { a.strategy = Strategy::kGroup; }, "positive group_size"},
      {"weights", [](QuantizationArgs& a) { a.strategy = Strategy::kChannel, a.group_size = 64; }, "channel"},
      {"weights", [](QuantizationArgs& a) { a.strategy = Strategy::kBlock; }, "block_structure"},
      {"weights",
       [](QuantizationArgs& a) {
         a.block_structure = {2, 2};
       },
       "block_structure"},
      {"weights",
       [](QuantizationArgs& a) {
         a.strategy = Strategy::kBlock;
         a.block_structure = {0, 2};
       },
       "positive"},
      {"weights", [](QuantizationArgs& a) { a.dynamic = Dynamic::kTrue; }, "dynamic"},
      {"weights", [](QuantizationArgs& a) { a.actorder = ActOrder::kGroup; }, "actorder"},
      {"weights", [](QuantizationArgs& a) { a.scale_dtype = DType::kU8; }, "uint8"},
      {"weights", [](QuantizationArgs& a) { a.scale_dtype = DType::kI64; }, "int64"},
      {"weights", [](QuantizationArgs& a) { a.strategy = Strategy::kTensorGroup, a.group_size = 16; },
       "tensor_group"},
      {"input_activations", [](QuantizationArgs& a) { a.strategy = Strategy::kToken; }, "dynamic"},
      {"input_activations", [](QuantizationArgs& a) { a.strategy = Strategy::kChannel; }, "activations"},
      {"input_activations", [](QuantizationArgs& a) { a.actorder = ActOrder::kWeight; }, "actorder"},
      {"input_activations", [](QuantizationArgs& a) { a.dynamic = Dynamic::kLocal; }, "local"},
  };
  for (const Broken& c : cases) {
    const QuantizationArgs before = args_with(c.change);
    QuantizationArgs args = before;
    const Status status = args.validate(c.field);
    ASSERT_FALSE(status.ok()) << c.message;
    EXPECT_THAT(status.error().message(), HasSubstr(c.message));
    EXPECT_THAT(status.error().message(), HasSubstr(c.field));
    EXPECT_EQ(args, before) << "a failed validate changes nothing";
  }
}

TEST(Scheme, PresetsAreFoundWithoutCaseAndValidateIsIdempotent) {
  EXPECT_EQ(preset_names().size(), 30u);
  for (const std::string& name : preset_names()) {
    std::string lower = name;
    for (char& c : lower) c = static_cast<char>(std::tolower(c));
    const auto scheme = preset_scheme(lower);
    ASSERT_TRUE(scheme) << name;
    QuantizationScheme again = *scheme;
    ASSERT_TRUE(again.validate().ok());
    EXPECT_EQ(again, *scheme) << name;
  }
  EXPECT_FALSE(preset_scheme("W4A17"));
  EXPECT_FALSE(preset_scheme(""));
}

TEST(Scheme, DefaultFormats) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"UNQUANTIZED", "dense"},           {"W4A16", "pack-quantized"},
      {"W8A16", "pack-quantized"},        {"W4A16_ASYM", "pack-quantized"},
      {"W8A8", "int-quantized"},          {"W4A8", "int-quantized"},
      {"W4AFP8", "int-quantized"},        {"FP8", "float-quantized"},
      {"FP8_DYNAMIC", "float-quantized"}, {"FP8_BLOCK", "float-quantized"},
      {"NVFP4", "nvfp4-pack-quantized"},  {"NVFP4A16", "nvfp4-pack-quantized"},
      {"MXFP4", "mxfp4-pack-quantized"},  {"MXFP4A16", "mxfp4-pack-quantized"},
      {"MXFP8", "mxfp8-quantized"},       {"MXFP8A16", "mxfp8-quantized"},
  };
  for (const auto& [name, format] : cases)
    EXPECT_EQ(to_string(default_format(*preset_scheme(name))), format) << name;
  QuantizationScheme weights_only = *preset_scheme("FP8_DYNAMIC");
  weights_only.input_activations.reset();
  EXPECT_EQ(default_format(weights_only), CompressionFormat::kNaiveQuantized);
}

TEST(Scheme, AForcedFormatMustHoldTheWeights) {
  QuantizationScheme scheme = *preset_scheme("W4A8");
  scheme.format = "pack-quantized";
  EXPECT_EQ(resolve_format(scheme).value(), CompressionFormat::kPackQuantized);
  scheme.format = "nvfp4-pack-quantized";
  EXPECT_FALSE(resolve_format(scheme).ok());
  scheme.format = "pack-quantised";
  const auto misspelt = resolve_format(scheme);
  ASSERT_FALSE(misspelt.ok());
  EXPECT_THAT(misspelt.error().message(), HasSubstr("pack-quantized"));
}

TEST(Scheme, WordsGoBothWays) {
  for (const std::string& name : strategy_names()) EXPECT_EQ(to_string(*strategy_from_string(name)), name);
  for (const std::string& name : format_names()) EXPECT_EQ(to_string(*format_from_string(name)), name);
  EXPECT_EQ(strategy_from_string("Tensor_Group"), Strategy::kTensorGroup);
  EXPECT_EQ(actorder_from_string("static"), ActOrder::kWeight);
  EXPECT_EQ(actorder_from_string("dynamic"), ActOrder::kGroup);
  EXPECT_EQ(actorder_from_string("columns"), std::nullopt);
  EXPECT_EQ(block_structure_from_string("64x32").value(), (std::array<std::int64_t, 2>{64, 32}));
  for (const char* bad : {"", "64", "64x", "x64", "64x32x1", "64,32", "a"}) {
    EXPECT_FALSE(block_structure_from_string(bad).ok()) << bad;
  }
}

TEST(Scheme, CodeRanges) {
  QuantizationArgs args;
  for (int bits = 1; bits <= 8; ++bits) {
    args.num_bits = bits;
    EXPECT_EQ(args.code_max() - args.code_min() + 1, 1 << bits);
    EXPECT_EQ(args.code_min(), -(1 << (bits - 1)));
  }
  args.type = NumberType::kFloat;
  EXPECT_EQ(args.code_max(), 448);
  args.num_bits = 4;
  EXPECT_EQ(args.code_min(), -6);
}

}  // namespace
}  // namespace nibble
