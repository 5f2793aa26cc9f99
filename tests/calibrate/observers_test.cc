// SPDX-License-Identifier: Apache-2.0
#include "calibrate/observers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"
#include "codec/compressed_weight.h"
#include "support/golden_args.h"
#include "support/golden_tensors.h"
#include "support/random_weight.h"

namespace nibble {
namespace {

using testing::golden_args;
using testing::golden_json;
using testing::GoldenTensors;
using ::testing::HasSubstr;
using testing::same_tensor;

Tensor long_tailed(DType dtype, std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  return testing::random_weight(dtype, rows, cols, seed, 0.5);
}

QuantizationArgs with_observer(QuantizationArgs args, const std::string& observer, const Json& kwargs = {}) {
  args.observer = observer;
  for (const auto& [key, value] : kwargs.items()) {
    if (value.is_number_integer()) {
      args.observer_kwargs[key] = value.get<std::int64_t>();
    } else {
      args.observer_kwargs[key] = value.get<double>();
    }
  }
  return args;
}

// Mean of x^2 per column in fp32, as a calibration run gives it.
std::vector<float> importance_of(const Tensor& activations) {
  const std::vector<float> x = activations.to_f32();
  const auto cols = static_cast<std::size_t>(activations.shape().back());
  std::vector<double> sums(cols);
  for (std::size_t i = 0; i < x.size(); ++i)
    sums[i % cols] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  std::vector<float> out;
  for (const double sum : sums)
    out.push_back(static_cast<float>(sum / (static_cast<double>(x.size()) / static_cast<double>(cols))));
  return out;
}

void expect_ranges(const GoldenTensors& golden, const std::string& name, const UnitRanges& found) {
  EXPECT_EQ(found.min, golden.get(name + "/min").to_f32()) << name;
  EXPECT_EQ(found.max, golden.get(name + "/max").to_f32()) << name;
}

TEST(Observers, WeightSearchesEqualTheReference) {
  const GoldenTensors golden("modifiers/weights_qdq.safetensors");
  const Json index = golden_json("modifiers/weights_qdq.json");
  ThreadPool pool(2);
  for (const auto& [name, entry] : index.items()) {
    const QuantizationArgs args =
        with_observer(golden_args(entry["args"], "weights"), entry["observer"].get<std::string>());
    const Tensor x = golden.get(entry["x"].get<std::string>());
    const auto found = observe_weight(pool, x, args);
    ASSERT_TRUE(found.ok()) << found.error().message();
    expect_ranges(golden, name, *found);
  }
}

TEST(Observers, OptionsOfTheSearchEqualTheReference) {
  const GoldenTensors golden("modifiers/observers_grid.safetensors");
  const Json index = golden_json("modifiers/observers_grid.json");
  ThreadPool pool(2);
  const Tensor x = golden.get("x");
  const std::vector<float> importance = importance_of(golden.get("act"));
  for (const auto& [name, entry] : index.items()) {
    const Json kwargs = entry.contains("observer_kwargs") ? entry["observer_kwargs"] : Json::object();
    const QuantizationArgs args =
        with_observer(golden_args(entry["args"], "weights"), entry["observer"].get<std::string>(), kwargs);
    const auto found = observe_weight(pool, x, args, importance);
    ASSERT_TRUE(found.ok()) << found.error().message();
    expect_ranges(golden, name, *found);
    const auto params = params_from_ranges(args, x.dtype(), x.dim(0), x.dim(1), *found);
    EXPECT_TRUE(same_tensor(golden.get(name + "/scale"), params->scale)) << name;
    if (golden.has(name + "/global_scale")) {
      EXPECT_EQ(params->global_scale, golden.get(name + "/global_scale").to_f32()[0]) << name;
    }
  }
}

TEST(Observers, StaticActivationsEqualTheReference) {
  const GoldenTensors golden("modifiers/activations_qdq.safetensors");
  const Json index = golden_json("modifiers/activations_qdq.json");
  ThreadPool pool(2);
  int compared = 0;
  for (const auto& [name, entry] : index.items()) {
    if (!name.starts_with("static.")) continue;
    const Json kwargs = entry.contains("observer_kwargs") ? entry["observer_kwargs"] : Json::object();
    const QuantizationArgs args = with_observer(golden_args(entry["args"], "input_activations"),
                                                entry["observer"].get<std::string>(), kwargs);
    auto observer = ActivationObserver::create(args, DType::kF32);
    ASSERT_TRUE(observer.ok());
    for (int batch = 0; batch < 4; ++batch) {
      const Tensor x = golden.get("batch" + std::to_string(batch));
      const std::vector<float> values = x.to_f32();
      const std::int64_t cols = x.shape().back();
      observer->observe(pool, values.data(), x.size() / cols, cols);
    }
    const auto params = observer->params();
    ASSERT_TRUE(params.ok());
    EXPECT_TRUE(same_tensor(golden.get(name + "/scale"), params->scale)) << name;
    if (!args.symmetric) {
      EXPECT_TRUE(same_tensor(golden.get(name + "/zero_point"), params->zero_point)) << name;
    }
    ++compared;
  }
  EXPECT_EQ(compared, 21);
}

// The weights that an mse observer wrote.
TEST(Observers, CompressedWeightsWithSearchEqualTheReference) {
  const GoldenTensors golden("codec/compressed.safetensors");
  const Json index = golden_json("codec/compressed.json");
  ThreadPool pool(2);
  int compared = 0;
  for (const auto& [name, entry] : index.items()) {
    if (entry["observer"] == "memoryless_minmax") continue;
    const QuantizationArgs args = golden_args(entry["weights"], "weights");
    const Tensor weight = golden.get(entry["base"].get<std::string>());
    const auto ranges = observe_weight(pool, weight, args);
    ASSERT_TRUE(ranges.ok());
    const auto params = params_from_ranges(args, weight.dtype(), weight.dim(0), weight.dim(1), *ranges);
    const auto format = format_from_string(entry["format"].get<std::string>());
    const auto compressed = CompressedWeight::from_weight(pool, weight, args, *format, *params);
    ASSERT_TRUE(compressed.ok());
    for (const auto& [suffix, tensor] : compressed->tensors()) {
      EXPECT_TRUE(same_tensor(golden.get(name + "." + suffix), tensor)) << name << "." << suffix;
    }
    ++compared;
  }
  EXPECT_GT(compared, 5);
}

double weighted_error(ThreadPool& pool, const Tensor& weight, const QuantizationArgs& args,
                      const UnitRanges& ranges, double norm, const std::vector<float>& importance) {
  const auto params = params_from_ranges(args, weight.dtype(), weight.dim(0), weight.dim(1), ranges).value();
  const std::vector<float> a = weight.to_f32();
  const std::vector<float> b = simulate_weight(pool, weight, args, params)->to_f32();
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double e = std::pow(std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])), norm);
    sum += importance.empty() ? e : e * static_cast<double>(importance[i % importance.size()]);
  }
  return sum;
}

// E5: the searched range is never worse than min-max in the searched metric; E7 for the range-expanding
// observer.
TEST(Observers, SearchNeverLosesToMinMax) {
  ThreadPool pool(2);
  const Tensor weight = long_tailed(DType::kF32, 24, 128, 3);
  std::vector<float> importance(128);
  Rng rng(5);
  for (float& value : importance) value = static_cast<float>(std::exp(rng.normal()));
  for (const char* preset :
       {"W4A16", "W4A16_ASYM", "W3A16", "W8A8", "FP8_DYNAMIC", "FP8", "MXFP4A16", "MXFP8A16", "NVFP4A16"}) {
    QuantizationArgs args = *preset_scheme(preset)->weights;
    if (args.is_nvfp4()) args.scale_dtype.reset();  // the search knows nothing of E4M3 scales
    const UnitRanges plain = observe_ranges(pool, weight, args);
    for (const char* observer :
         {"memoryless_mse", "imatrix_mse", "nvfp4_expanded_mse", "nvfp4_expanded_imatrix"}) {
      const QuantizationArgs searched = with_observer(args, observer);
      const ObserverSettings settings = observer_settings(searched).value();
      const std::vector<float> weights =
          settings.uses_importance && args.strategy != Strategy::kTensor ? importance : std::vector<float>();
      const UnitRanges found = observe_weight(pool, weight, searched, weights).value();
      const double before = weighted_error(pool, weight, args, plain, settings.norm, weights);
      const double after = weighted_error(pool, weight, args, found, settings.norm, weights);
      if (settings.expand > 1) {
        continue;  // starts from a wider range than min-max, which is one of its steps only nearly
      }
      EXPECT_LE(after, before * (1 + 1e-6)) << preset << " " << observer;
    }
  }
}

TEST(Observers, UniformImportanceEqualsNoImportance) {
  ThreadPool pool(1);
  const Tensor weight = long_tailed(DType::kBF16, 8, 96, 7);
  QuantizationArgs args;
  args.num_bits = 3;
  args.group_size = 32;
  ASSERT_TRUE(args.validate("weights").ok());
  const QuantizationArgs searched = with_observer(args, "imatrix_mse");
  const UnitRanges none = observe_weight(pool, weight, searched).value();
  const UnitRanges same = observe_weight(pool, weight, searched, std::vector<float>(96, 4.0f)).value();
  EXPECT_EQ(none.min, same.min);
  EXPECT_EQ(none.max, same.max);
  // Weights that cannot be used fall back, unless strict.
  QuantizationArgs strict = searched;
  strict.observer_kwargs["strict"] = true;
  for (const auto& bad :
       {std::vector<float>(95, 1.0f), std::vector<float>(96, 0.0f), std::vector<float>(96, -1.0f),
        std::vector<float>(96, std::nanf("")), std::vector<float>()}) {
    EXPECT_EQ(observe_weight(pool, weight, searched, bad)->max, none.max);
    EXPECT_FALSE(observe_weight(pool, weight, strict, bad).ok());
  }
}

TEST(Observers, ResultsDoNotDependOnThreads) {
  const Tensor weight = long_tailed(DType::kBF16, 37, 160, 11);
  ThreadPool one(1);
  ThreadPool four(4);
  for (const std::string& observer : known_observers()) {
    for (const char* preset : {"W4A16", "FP8", "FP8_BLOCK", "NVFP4A16", "W8A8"}) {
      const QuantizationArgs args = with_observer(*preset_scheme(preset)->weights, observer);
      const auto a = observe_weight(one, weight, args).value();
      const auto b = observe_weight(four, weight, args).value();
      EXPECT_EQ(a.min, b.min);
      EXPECT_EQ(a.max, b.max);
    }
  }
}

TEST(Observers, PercentileLeavesOutTheTails) {
  ThreadPool pool(1);
  std::vector<float> values(1001);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) - 500;
  QuantizationArgs args;
  args.strategy = Strategy::kChannel;
  ASSERT_TRUE(args.validate("weights").ok());
  args = with_observer(args, "percentile", Json{{"percentile", 99.0}});
  const UnitRanges found =
      observe_weight(pool, Tensor::from_f32(DType::kF32, {1, 1001}, values), args).value();
  EXPECT_FLOAT_EQ(found.min[0], -490);
  EXPECT_FLOAT_EQ(found.max[0], 490);
  const QuantizationArgs all = with_observer(args, "percentile", Json{{"percentile", 100.0}});
  EXPECT_EQ(observe_weight(pool, Tensor::from_f32(DType::kF32, {1, 1001}, values), all)->max[0], 500);

  QuantizationArgs input;
  ASSERT_TRUE(input.validate("input_activations").ok());
  auto observer =
      ActivationObserver::create(with_observer(input, "percentile", Json{{"percentile", 99.0}}), DType::kF32);
  observer->observe(pool, values.data(), 7, 143);
  for (float& value : values) value *= 3;
  observer->observe(pool, values.data(), 7, 143);
  EXPECT_FLOAT_EQ(observer->ranges().max[0], 2 * 490);  // the mean of two batches
}

TEST(Observers, PaddingDoesNotCountAndNoDataIsAnError) {
  ThreadPool pool(1);
  QuantizationArgs args;
  ASSERT_TRUE(args.validate("input_activations").ok());
  auto observer = ActivationObserver::create(with_observer(args, "static_minmax"), DType::kBF16).value();
  const auto nothing = observer.params();
  ASSERT_FALSE(nothing.ok());
  EXPECT_THAT(nothing.error().message(), HasSubstr("no calibration token"));
  const std::vector<float> x{1, -2, 100, -100, 3, 0.5};
  const std::uint8_t mask[] = {1, 0, 1};
  observer.observe(pool, x.data(), 3, 2, mask);
  EXPECT_EQ(observer.ranges().min, (std::vector<float>{-2}));
  EXPECT_EQ(observer.ranges().max, (std::vector<float>{3}));
  const std::uint8_t none[] = {0, 0, 0};
  observer.observe(pool, x.data(), 3, 2, none);
  EXPECT_EQ(observer.ranges().max, (std::vector<float>{3}));
  const std::vector<float> bad{std::nanf(""), 1};
  observer.observe(pool, bad.data(), 1, 2);
  EXPECT_FALSE(observer.params().ok());
}

TEST(Observers, HeadsAndGroupsHaveTheirOwnRanges) {
  ThreadPool pool(1);
  QuantizationArgs heads;
  heads.strategy = Strategy::kAttnHead;
  heads.type = NumberType::kFloat;
  ASSERT_TRUE(heads.validate("kv_cache_scheme").ok());
  auto observer = ActivationObserver::create(with_observer(heads, "static_minmax"), DType::kBF16, 2).value();
  const std::vector<float> x{1, -2, 448, 3, 0, 0, -896, 1};
  observer.observe(pool, x.data(), 2, 4);
  const auto params = observer.params().value();
  EXPECT_EQ(params.scale.shape(), (Shape{2, 1, 1}));
  EXPECT_EQ(params.scale.to_f32()[1], 2.0f);

  const QuantizationArgs local = *preset_scheme("NVFP4")->input_activations;
  auto global = ActivationObserver::create(local, DType::kF32).value();
  std::vector<float> wide(64, 0.5f);
  wide[40] = -2.0f;
  global.observe(pool, wide.data(), 1, 64);
  EXPECT_EQ(global.params()->global_scale, 1344.0f);
}

TEST(Observers, NamesAndOptionsAreChecked) {
  QuantizationArgs args;
  for (const std::string& name : known_observers())
    EXPECT_TRUE(observer_settings(with_observer(args, name)).ok());
  EXPECT_TRUE(observer_settings(with_observer(args, "Memoryless-MSE")).ok());
  const auto unknown = observer_settings(with_observer(args, "minmaxx"));
  ASSERT_FALSE(unknown.ok());
  EXPECT_THAT(unknown.error().message(), HasSubstr("minmax"));
  const auto key = observer_settings(with_observer(args, "mse", Json{{"maxshrnk", 0.5}}));
  ASSERT_FALSE(key.ok());
  EXPECT_THAT(key.error().message(), HasSubstr("maxshrink"));
  for (const Json& bad :
       {Json{{"maxshrink", 1.5}}, Json{{"grid", 0}}, Json{{"norm", 0}}, Json{{"expand", 0.5}},
        Json{{"patience", -1}}, Json{{"patience", 2.5}}, Json{{"averaging_constant", 2}}}) {
    EXPECT_FALSE(observer_settings(with_observer(args, "mse", bad)).ok()) << bad.dump();
  }
  EXPECT_TRUE(observer_settings(with_observer(args, "mse", Json{{"chunk_size", 7}, {"grid", 50}})).ok());
}

}  // namespace
}  // namespace nibble
