// SPDX-License-Identifier: Apache-2.0
// Whole pruning runs in reference mode against what the reference tool made of the same model and tokens:
// masks equal but for near ties of SparseGPT's scores (with two threads the reference differs from itself in
// some hundred weights), values to one rounding step of BF16.
#include <gtest/gtest.h>

#include <cmath>

#include "session/oneshot_fixture.h"
#include "support/golden_tensors.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;
using testing::GoldenTensors;

const fs::path kPruningGoldens = fs::path(NIBBLE_SOURCE_DIR) / "tests/golden";

struct Golden {
  const char* name;
  std::int64_t ties;  // places of all layers that may differ
};
void PrintTo(const Golden& golden, std::ostream* out) {
  *out << golden.name;
}

class PruningGolden : public ::testing::TestWithParam<Golden> {};

// Values that are kept in both agree to 1e-4 and one step of BF16.
void expect_values(const std::string& name, const std::vector<float>& expected,
                   const std::vector<float>& found) {
  std::size_t other = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double x = static_cast<double>(expected[i]), y = static_cast<double>(found[i]);
    EXPECT_LE(std::fabs(x - y), 1e-4 + std::fabs(x) / 128) << name << " " << i;
    other += x != y ? 1 : 0;
  }
  EXPECT_LE(other, expected.size() / 400) << name;
}

TEST_P(PruningGolden, ReferenceModeMakesTheSameMasks) {
  OneshotRun run;
  Options options;
  options.model = (kOneshotGoldens / "base-mini").string();
  options.recipe = {(kPruningGoldens / "pruned" / (std::string(GetParam().name) + ".yaml")).string()};
  options.dataset = (kPruningGoldens / "calibrated/calib_ids.safetensors").string();
  options.reference = true;
  options.output_dir = run.output().string();
  const auto report = run.start(options);
  ASSERT_TRUE(report.ok()) << report.error().message();
  const auto written = Checkpoint::open(run.output().string());
  ASSERT_TRUE(written.ok()) << written.error().message();
  const GoldenTensors golden(fs::path("pruned") / (std::string(GetParam().name) + ".safetensors"));
  std::int64_t other = 0;
  int masks = 0;
  for (const auto& [name, expected] : golden.all()) {
    const bool is_mask = name.ends_with(".kept");
    const std::string weight = is_mask ? name.substr(0, name.size() - 5) : name;
    const std::vector<float> found = (*written)->load(weight).value().to_f32();
    if (!is_mask) {
      expect_values(name, expected.to_f32(), found);
      continue;
    }
    ++masks;
    const auto bits = expected.as<std::uint8_t>();
    ASSERT_EQ(bits.size(), (found.size() + 7) / 8) << name;
    for (std::size_t i = 0; i < found.size(); ++i)
      other += (((bits[i / 8] >> (i % 8)) & 1) != 0) != (found[i] != 0) ? 1 : 0;
  }
  EXPECT_EQ(masks, 14);
  EXPECT_LE(other, GetParam().ties);
}

INSTANTIATE_TEST_SUITE_P(Recipes, PruningGolden,
                         ::testing::Values(Golden{"sparsegpt-24", 100}, Golden{"sparsegpt-50", 20},
                                           Golden{"sparsegpt-50-owl", 40}, Golden{"wanda-24", 0}),
                         [](const auto& parameter) {
                           std::string name = parameter.param.name;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace nibble
