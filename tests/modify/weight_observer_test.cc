// SPDX-License-Identifier: Apache-2.0
// The range search against the results of the reference's mse observers (tests/golden/modifiers).
#include "modify/weight_observer.h"

#include <gtest/gtest.h>

#include "support/golden_args.h"
#include "support/golden_tensors.h"

namespace nibble {
namespace {

using testing::golden_args;
using testing::golden_json;
using testing::GoldenTensors;

std::map<std::string, ObserverValue> kwargs_of(const Json& spec) {
  std::map<std::string, ObserverValue> out;
  if (!spec.contains("observer_kwargs")) return out;
  for (const auto& [key, value] : spec["observer_kwargs"].items()) out[key] = value.get<double>();
  return out;
}

int differing(const std::vector<float>& found, const Tensor& expected) {
  const std::vector<float> values = expected.to_f32();
  EXPECT_EQ(found.size(), values.size());
  int count = 0;
  for (std::size_t i = 0; i < std::min(found.size(), values.size()); ++i)
    count += found[i] != values[i] ? 1 : 0;
  return count;
}

// Counts the units whose range differs from the golden one; `units` gets how many there are.
int differences_in(const std::string& file, int& cases, int& units) {
  const Json index = golden_json("modifiers/" + file + ".json");
  const GoldenTensors golden("modifiers/" + file + ".safetensors");
  ThreadPool pool(2);
  int wrong = 0;
  for (const auto& [name, spec] : index.items()) {
    const std::string observer = spec["observer"].get<std::string>();
    if (observer.find("mse") == std::string::npos || observer.find("imatrix") != std::string::npos) continue;
    QuantizationArgs args = golden_args(spec["args"], "weights");
    args.observer = observer;
    args.observer_kwargs = kwargs_of(spec);
    const auto ranges = observe_weight(pool, golden.get(spec["x"].get<std::string>()), args);
    EXPECT_TRUE(ranges.ok()) << name;
    if (!ranges.ok()) continue;
    const int count =
        differing(ranges->min, golden.get(name + "/min")) + differing(ranges->max, golden.get(name + "/max"));
    EXPECT_EQ(count, 0) << file << " " << name << ": of " << ranges->min.size() << " units";
    wrong += count;
    ++cases;
    units += static_cast<int>(ranges->min.size());
  }
  return wrong;
}

TEST(WeightObserverTest, RangeSearchFindsTheRangesOfTheReference) {
  int cases = 0;
  int units = 0;
  EXPECT_EQ(differences_in("weights_qdq", cases, units), 0);
  EXPECT_EQ(differences_in("observers_grid", cases, units), 0);
  EXPECT_GT(cases, 50);
  EXPECT_GT(units, 1000);
}

TEST(WeightObserverTest, ObserversThatNeedDataSaySo) {
  ThreadPool pool(1);
  QuantizationArgs args;
  args.observer = "imatrix_mse";
  ASSERT_TRUE(args.validate("weights").ok());
  EXPECT_FALSE(observe_weight(pool, Tensor(DType::kF32, {2, 4}), args).ok());
}

TEST(WeightObserverTest, UnknownArgumentsOfAnObserverAreErrors) {
  ThreadPool pool(1);
  QuantizationArgs args;
  args.observer = "mse";
  args.observer_kwargs["maxshrinc"] = 0.5;
  ASSERT_TRUE(args.validate("weights").ok());
  const auto ranges = observe_weight(pool, Tensor(DType::kF32, {2, 4}), args);
  ASSERT_FALSE(ranges.ok());
  EXPECT_NE(ranges.error().message().find("maxshrink"), std::string::npos);
}

}  // namespace
}  // namespace nibble
