// SPDX-License-Identifier: Apache-2.0
#include "codec/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/rng.h"
#include "support/golden_args.h"
#include "support/golden_tensors.h"
#include "support/random_weight.h"

namespace nibble {
namespace {

using testing::golden_args;
using testing::golden_json;
using testing::GoldenTensors;
using testing::random_weight;
using testing::same_tensor;

QuantizationArgs int_args(int bits, bool symmetric, std::int64_t group) {
  QuantizationArgs args;
  args.num_bits = bits;
  args.symmetric = symmetric;
  args.group_size = group;
  EXPECT_TRUE(args.validate("weights").ok());
  return args;
}

std::vector<QuantizationArgs> all_weight_args() {
  std::vector<QuantizationArgs> all;
  for (const std::string& name : preset_names()) {
    const auto scheme = *preset_scheme(name);
    if (scheme.weights) all.push_back(*scheme.weights);
  }
  for (int bits = 1; bits <= 8; ++bits) {
    all.push_back(int_args(bits, false, 16));
    all.push_back(int_args(bits, true, -1));
  }
  QuantizationArgs block = *preset_scheme("FP8_BLOCK")->weights;
  block.block_structure = {3, 20};
  all.push_back(block);
  return all;
}

TEST(Quantize, EdgesOfScaleAndZeroPointEqualTheReference) {
  const GoldenTensors golden("modifiers/qparams_edges.safetensors");
  const Json index = golden_json("modifiers/qparams_edges.json");
  for (const auto& [name, entry] : index.items()) {
    if (!entry.is_object() || entry.contains("error")) continue;
    Json json = entry["args"];
    if (!json.contains("strategy")) json["strategy"] = "channel";
    const QuantizationArgs args = golden_args(json, "weights");
    const Tensor min = golden.get(entry["min"].get<std::string>());
    const std::vector<float> low = min.to_f32();
    const std::vector<float> high = golden.get(entry["max"].get<std::string>()).to_f32();
    std::optional<float> global;
    if (golden.has(name + "/global_scale")) global = golden.get(name + "/global_scale").to_f32()[0];
    const ScaleRule rule(args, min.dtype(), global);
    const Tensor expected = golden.get(name + "/scale");
    EXPECT_EQ(expected.dtype(), rule.scale_dtype()) << name;
    const std::vector<float> scales = expected.to_f32();
    for (std::size_t i = 0; i < low.size(); ++i) {
      const ScaleZero found = rule(low[i], high[i]);
      EXPECT_EQ(found.scale, scales[i]) << name << " " << index["rows"][i];
      if (!golden.has(name + "/zero_point")) continue;
      EXPECT_EQ(found.zero_point, golden.get(name + "/zero_point").to_f32()[i])
          << name << " " << index["rows"][i];
    }
  }
}

TEST(Quantize, GlobalScalesEqualTheReference) {
  const GoldenTensors golden("modifiers/qparams_edges.safetensors");
  const std::pair<std::string, std::string> pairs[] = {
      {"gparam/absmax", "gparam/global_scale"}, {"gparam/absmax_bf16", "gparam/global_scale_from_bf16"}};
  for (const auto& [input, output] : pairs) {
    const Tensor absmax = golden.get(input);
    const std::vector<float> expected = golden.get(output).to_f32();
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const float value = absmax.to_f32()[i];
      EXPECT_EQ(global_scale_of(absmax.dtype(), -value, value), expected[i]) << value;
    }
  }
  const float nan = std::nanf("");
  EXPECT_EQ(global_scale_of(DType::kF32, nan, nan), 1.0f);
}

// Ranges, parameters, codes and simulated weights of every strategy, dtype and number format.
TEST(Quantize, WeightsEqualTheReference) {
  const GoldenTensors golden("modifiers/weights_qdq.safetensors");
  ThreadPool pool(2);
  const Json index = golden_json("modifiers/weights_qdq.json");
  for (const auto& [name, entry] : index.items()) {
    const QuantizationArgs args = golden_args(entry["args"], "weights");
    const Tensor x = golden.get(entry["x"].get<std::string>());
    UnitRanges ranges{golden.get(name + "/min").to_f32(), golden.get(name + "/max").to_f32()};
    if (entry["observer"] == "memoryless_minmax") {
      const UnitRanges found = observe_ranges(pool, x, args);
      EXPECT_EQ(found.min, ranges.min) << name;
      EXPECT_EQ(found.max, ranges.max) << name;
    }
    const auto params = params_from_ranges(args, x.dtype(), x.dim(0), x.dim(1), ranges);
    ASSERT_TRUE(params.ok()) << params.error().message();
    EXPECT_TRUE(same_tensor(golden.get(name + "/scale"), params->scale)) << name;
    if (golden.has(name + "/zero_point")) {
      EXPECT_TRUE(same_tensor(golden.get(name + "/zero_point"), params->zero_point)) << name;
    }
    if (golden.has(name + "/global_scale")) {
      EXPECT_EQ(params->global_scale, golden.get(name + "/global_scale").to_f32()[0]) << name;
    }
    const auto codes = quantize_weight(pool, x, args, *params);
    ASSERT_TRUE(codes.ok());
    if (golden.has(name + "/codes")) {
      EXPECT_TRUE(same_tensor(golden.get(name + "/codes"), *codes)) << name;
    }
    if (golden.has(name + "/values")) {
      WeightParams unit = *params;  // scale 1 turns codes into the values they stand for
      unit.global_scale.reset();
      unit.scale = Tensor::from_f32(DType::kF32, params->scale.shape(),
                                    std::vector<float>(static_cast<std::size_t>(params->scale.size()), 1.0f));
      const auto values = dequantize_weight(pool, *codes, args, unit, DType::kF32);
      EXPECT_TRUE(same_tensor(golden.get(name + "/values"), *values)) << name;
    }
    if (golden.has(name + "/fakequant")) {
      const auto simulated = simulate_weight(pool, x, args, *params);
      ASSERT_TRUE(simulated.ok());
      const Tensor expected = golden.get(name + "/fakequant");
      EXPECT_TRUE(same_tensor(expected, *simulated)) << name;
    }
  }
}

// E1, E11: what a reader of the codes computes with is what was simulated, and quantizing it again changes
// nothing.
TEST(Quantize, SimulatedEqualsStoredAndIsAFixedPoint) {
  ThreadPool pool(1);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const Tensor x = random_weight(dtype, 13, 320, 3);
    for (const QuantizationArgs& args : all_weight_args()) {
      const auto params = min_max_params(pool, x, args);
      ASSERT_TRUE(params.ok());
      const auto codes = quantize_weight(pool, x, args, *params);
      const auto stored = dequantize_weight(pool, *codes, args, *params, dtype);
      const auto simulated = simulate_weight(pool, x, args, *params);
      EXPECT_EQ(stored->to_f32(), simulated->to_f32());
      // In BF16 and F16 a product rounded to storage may divide back to a neighbour at 8 bits; in F32 never.
      if (dtype != DType::kF32) continue;
      const auto again = quantize_weight(pool, *stored, args, *params);
      EXPECT_EQ(dequantize_weight(pool, *again, args, *params, dtype)->to_f32(), stored->to_f32())
          << to_string(*args.strategy) << args.num_bits;
    }
  }
}

// E2, E3: within half a step inside the range, never outside the code range.
TEST(Quantize, ErrorsAreBoundedByHalfAStep) {
  ThreadPool pool(1);
  const Tensor x = random_weight(DType::kF32, 8, 96, 5);
  for (int bits = 1; bits <= 8; ++bits) {
    for (const bool symmetric : {true, false}) {
      const QuantizationArgs args = int_args(bits, symmetric, 32);
      const auto params = min_max_params(pool, x, args).value();
      const auto quantizer = WeightQuantizer::create(args, DType::kF32, 8, 96, params).value();
      const std::vector<float> values = x.to_f32();
      const std::vector<float> simulated = simulate_weight(pool, x, args, params)->to_f32();
      const Tensor codes = quantize_weight(pool, x, args, params).value();
      for (std::size_t i = 0; i < values.size(); ++i) {
        const auto row = static_cast<std::int64_t>(i / 96);
        const auto col = static_cast<std::int64_t>(i % 96);
        const float scale = quantizer.scale_at(row, col);
        const float zero = quantizer.zero_point_at(row, col);
        const float low = scale * (static_cast<float>(args.code_min()) - zero);
        const float high = scale * (static_cast<float>(args.code_max()) - zero);
        const float inside = std::clamp(values[i], low, high);
        const float two_ulp = std::fabs(inside) * 0x1p-22f;
        EXPECT_LE(std::fabs(inside - simulated[i]), scale / 2 + two_ulp);
        const int code = codes.as<std::int8_t>()[i];
        EXPECT_GE(code, args.code_min());
        EXPECT_LE(code, args.code_max());
      }
    }
  }
}

// E9: a power of two passes through (not for MX and FP8 scales, whose exponents end).
TEST(Quantize, ScalesWithPowersOfTwo) {
  ThreadPool pool(1);
  const Tensor x = random_weight(DType::kBF16, 4, 128, 7);
  std::vector<float> larger = x.to_f32();
  for (float& value : larger) value *= 8;
  const Tensor y = Tensor::from_f32(DType::kBF16, {4, 128}, larger);
  for (const QuantizationArgs& args : all_weight_args()) {
    std::vector<float> a = simulate_weight(pool, x, args, min_max_params(pool, x, args).value())->to_f32();
    const std::vector<float> b =
        simulate_weight(pool, y, args, min_max_params(pool, y, args).value())->to_f32();
    for (float& value : a) value *= 8;
    EXPECT_EQ(a, b) << to_string(*args.strategy) << args.num_bits;
  }
}

// E10: degenerate units are finite, and zero stays zero.
TEST(Quantize, ZeroConstantAndOneSidedUnits) {
  ThreadPool pool(1);
  std::vector<float> values(6 * 64);
  for (std::size_t c = 0; c < 64; ++c) {
    values[0 * 64 + c] = 0.0f;
    values[1 * 64 + c] = 0.75f;
    values[2 * 64 + c] = -0.75f;
    values[3 * 64 + c] = 0.01f * static_cast<float>(c);
    values[4 * 64 + c] = -0.01f * static_cast<float>(c);
    values[5 * 64 + c] = c == 7 ? 1e-30f : 0.0f;
  }
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const Tensor x = Tensor::from_f32(dtype, {6, 64}, values);
    for (const QuantizationArgs& args : all_weight_args()) {
      const auto params = min_max_params(pool, x, args);
      ASSERT_TRUE(params.ok());
      const std::vector<float> out = simulate_weight(pool, x, args, *params)->to_f32();
      for (std::size_t i = 0; i < out.size(); ++i) {
        EXPECT_TRUE(std::isfinite(out[i]));
        if (values[i] == 0.0f) {
          EXPECT_EQ(out[i], 0.0f);
        }
      }
    }
  }
}

TEST(Quantize, TheLastGroupMayBeShorter) {
  ThreadPool pool(1);
  const Tensor x = random_weight(DType::kBF16, 3, 100, 11);
  const QuantizationArgs args = int_args(4, false, 32);
  const auto params = min_max_params(pool, x, args).value();
  EXPECT_EQ(params.scale.shape(), (Shape{3, 4}));
  const std::vector<float> whole = simulate_weight(pool, x, args, params)->to_f32();
  // The last group alone gives the same values.
  std::vector<float> tail;
  for (std::size_t r = 0; r < 3; ++r) {
    const auto values = x.to_f32();
    tail.insert(tail.end(), values.begin() + static_cast<std::ptrdiff_t>(r * 100 + 96),
                values.begin() + static_cast<std::ptrdiff_t>(r * 100 + 100));
  }
  const Tensor rest = Tensor::from_f32(DType::kBF16, {3, 4}, tail);
  const auto alone = simulate_weight(pool, rest, args, min_max_params(pool, rest, args).value())->to_f32();
  for (std::size_t r = 0; r < 3; ++r) {
    for (std::size_t c = 0; c < 4; ++c) EXPECT_EQ(whole[r * 100 + 96 + c], alone[r * 4 + c]);
  }
}

TEST(Quantize, ActOrderGroupsEqualPermutedColumns) {
  ThreadPool pool(2);
  constexpr std::int64_t rows = 5;
  constexpr std::int64_t cols = 96;
  const Tensor x = random_weight(DType::kBF16, rows, cols, 13);
  const QuantizationArgs args = int_args(4, false, 32);
  std::vector<std::int32_t> g_idx(cols);
  for (std::size_t c = 0; c < g_idx.size(); ++c) g_idx[c] = static_cast<std::int32_t>((c * 7) % 3);
  const UnitRanges ranges = observe_ranges(pool, x, args, g_idx);
  const auto params = params_from_ranges(args, DType::kBF16, rows, cols, ranges, std::nullopt, g_idx).value();
  // The same by hand: columns gathered group by group.
  std::vector<std::size_t> order;
  for (std::int32_t g = 0; g < 3; ++g) {
    for (std::size_t c = 0; c < g_idx.size(); ++c) {
      if (g_idx[c] == g) order.push_back(c);
    }
  }
  const std::vector<float> values = x.to_f32();
  std::vector<float> permuted(values.size());
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t i = 0; i < order.size(); ++i) permuted[r * cols + i] = values[r * cols + order[i]];
  }
  const Tensor y = Tensor::from_f32(DType::kBF16, {rows, cols}, permuted);
  const auto plain = min_max_params(pool, y, args).value();
  EXPECT_TRUE(same_tensor(plain.scale, params.scale));
  const auto a = simulate_weight(pool, x, args, params)->to_f32();
  const auto b = simulate_weight(pool, y, args, plain)->to_f32();
  const auto stored =
      dequantize_weight(pool, quantize_weight(pool, x, args, params).value(), args, params, DType::kBF16)
          ->to_f32();
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t i = 0; i < order.size(); ++i) {
      EXPECT_EQ(a[r * cols + order[i]], b[r * cols + i]);
      EXPECT_EQ(stored[r * cols + order[i]], b[r * cols + i]);
    }
  }
}

TEST(Quantize, ASolversColumnsEqualRows) {
  ThreadPool pool(1);
  const Tensor x = random_weight(DType::kF32, 37, 64, 17);
  const Tensor stored = Tensor::from_f32(DType::kBF16, {37, 64}, x.to_f32());
  for (const QuantizationArgs& args : all_weight_args()) {
    const auto params = min_max_params(pool, stored, args).value();
    const auto quantizer = WeightQuantizer::create(args, DType::kF32, 37, 64, params).value();
    const std::vector<float> values = x.to_f32();
    std::vector<float> row(64);
    for (std::int64_t c = 0; c < 64; ++c) {
      std::vector<float> column, scales, zeros, out(37);
      for (std::int64_t r = 0; r < 37; ++r) {
        column.push_back(values[static_cast<std::size_t>(r * 64 + c)]);
        scales.push_back(quantizer.scale_at(r, c));
        if (quantizer.has_zero_points()) zeros.push_back(quantizer.zero_point_at(r, c));
      }
      quantizer.simulate_each(column, scales, zeros, out);
      for (std::int64_t r = 0; r < 37; ++r) {
        quantizer.simulate(r, std::span(values).subspan(static_cast<std::size_t>(r * 64), 64), row);
        ASSERT_EQ(out[static_cast<std::size_t>(r)], row[static_cast<std::size_t>(c)]);
      }
    }
  }
}

TEST(Quantize, NaNAndInfinityAreRefusedWithTheirPlace) {
  ThreadPool pool(1);
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    std::vector<float> values(4 * 64, 0.5f);
    values[2 * 64 + 40] = bad;
    const Tensor x = Tensor::from_f32(DType::kBF16, {4, 64}, values);
    const auto params = min_max_params(pool, x, int_args(4, true, 32));
    ASSERT_FALSE(params.ok());
    EXPECT_NE(params.error().message().find("row 2"), std::string::npos) << params.error().message();
    EXPECT_NE(params.error().message().find("column 32"), std::string::npos);
    EXPECT_FALSE(min_max_params(pool, x, *preset_scheme("FP8")->weights).ok());
  }
}

TEST(Quantize, ParametersThatDoNotFitAreErrors) {
  ThreadPool pool(1);
  const Tensor x = random_weight(DType::kF32, 4, 64, 19);
  const QuantizationArgs args = int_args(4, false, 32);
  const auto params = min_max_params(pool, x, args).value();
  WeightParams bad = params;
  bad.scale = params.scale.reshaped({8});
  EXPECT_TRUE(quantize_weight(pool, x, args, bad).ok()) << "shapes of equal size are one";
  bad.scale = Tensor::from_f32(DType::kF32, {4, 1}, std::vector<float>(4, 1.0f));
  EXPECT_FALSE(quantize_weight(pool, x, args, bad).ok());
  bad = params;
  bad.zero_point = Tensor();
  EXPECT_FALSE(quantize_weight(pool, x, args, bad).ok());
  for (const std::int32_t wrong : {2, -2}) {
    bad = params;
    bad.g_idx.assign(64, 0);
    std::fill(bad.g_idx.begin() + 32, bad.g_idx.end(), wrong);
    EXPECT_FALSE(quantize_weight(pool, x, args, bad).ok());
  }
  bad.g_idx.assign(64, 0);
  EXPECT_FALSE(quantize_weight(pool, x, args, bad).ok()) << "one group holds everything";
  bad.g_idx.assign(64, -1);
  EXPECT_TRUE(quantize_weight(pool, x, args, bad).ok()) << "-1: never set";
}

TEST(Quantize, ResultsDoNotDependOnThreads) {
  const Tensor x = random_weight(DType::kBF16, 67, 256, 23);
  ThreadPool one(1);
  ThreadPool four(4);
  for (const QuantizationArgs& args : all_weight_args()) {
    const auto a = min_max_params(one, x, args).value();
    const auto b = min_max_params(four, x, args).value();
    EXPECT_TRUE(same_tensor(a.scale, b.scale));
    EXPECT_TRUE(
        same_tensor(quantize_weight(one, x, args, a).value(), quantize_weight(four, x, args, b).value()));
  }
}

}  // namespace
}  // namespace nibble
