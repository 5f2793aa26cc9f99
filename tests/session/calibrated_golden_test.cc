// SPDX-License-Identifier: Apache-2.0
// Calibrated runs in reference mode against what the reference tool made of the same model and tokens, in
// FP32: codes equal but for ties, scales and folded weights to rounding.
#include <gtest/gtest.h>

#include <cmath>

#include "session/oneshot_fixture.h"
#include "support/golden_args.h"
#include "support/golden_tensors.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;
using testing::golden_json;
using testing::GoldenTensors;

const fs::path kGoldens = fs::path(NIBBLE_SOURCE_DIR) / "tests/golden/calibrated";

std::vector<std::string> calibrated_cases() {
  std::vector<std::string> names;
  const Json index = golden_json("calibrated/index.json");
  for (const auto& [name, spec] : index.items()) names.push_back(name);
  return names;
}

// Half bytes: a code of up to four bits, or half of a larger one.
struct Codes {
  std::size_t equal = 0, all = 0;
  void compare(const Tensor& a, const Tensor& b) {
    for (std::size_t i = 0; i < a.byte_size(); ++i) {
      const unsigned x = std::to_integer<unsigned>(a.bytes()[i] ^ b.bytes()[i]);
      equal += static_cast<std::size_t>((x & 15u) == 0) + static_cast<std::size_t>((x >> 4) == 0);
      all += 2;
    }
  }
};

// Of the whole tensor, and no value further off than a few rounding steps of its own.
void expect_close(const std::string& name, const Tensor& expected, const Tensor& found) {
  const std::vector<float> x = expected.to_f32();
  const std::vector<float> y = found.to_f32();
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double scale = std::max(std::fabs(static_cast<double>(x[i])), 1e-6);
    worst = std::max(worst, std::fabs(static_cast<double>(x[i]) - static_cast<double>(y[i])) / scale);
  }
  EXPECT_LT(worst, 2e-6) << name;
}

class CalibratedGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(CalibratedGolden, ReferenceModeMakesWhatTheReferenceMakes) {
  const std::string base = golden_json("calibrated/index.json")[GetParam()]["base"].get<std::string>();
  OneshotRun run;
  Options options;
  options.model = (kOneshotGoldens / base).string();
  options.recipe = {(kGoldens / (GetParam() + ".yaml")).string()};
  options.dataset = (kGoldens / "calib_ids.safetensors").string();
  options.precision = "fp32";
  options.reference = true;
  options.output_dir = run.output().string();
  const auto report = run.start(options);
  ASSERT_TRUE(report.ok()) << report.error().message();
  EXPECT_EQ(report->pipeline, "independent");
  const auto written = Checkpoint::open(run.output().string());
  ASSERT_TRUE(written.ok()) << written.error().message();
  const GoldenTensors golden(fs::path("calibrated") / (GetParam() + ".safetensors"));
  Codes codes;
  for (const auto& [name, expected] : golden.all()) {
    const auto found = (*written)->load(name);
    ASSERT_TRUE(found.ok()) << found.error().message();
    ASSERT_EQ(found->dtype(), expected.dtype()) << name;
    ASSERT_EQ(found->shape(), expected.shape()) << name;
    if (expected.dtype() == DType::kF32) {
      expect_close(name, expected, *found);
    } else {
      codes.compare(expected, *found);
    }
  }
  // A symmetric grid puts the largest weight of a group half way between two codes: the last bit of the scale
  // decides.
  EXPECT_GE(static_cast<double>(codes.equal), 0.999 * static_cast<double>(codes.all));
}

INSTANTIATE_TEST_SUITE_P(Recipes, CalibratedGolden, ::testing::ValuesIn(calibrated_cases()),
                         [](const auto& parameter) {
                           std::string name = parameter.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace nibble
