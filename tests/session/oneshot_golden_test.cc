// SPDX-License-Identifier: Apache-2.0
// Whole runs against what the reference tool's oneshot wrote (tests/golden/oneshot): every tensor to the bit,
// config.json and recipe.yaml to the letter.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "base/hash.h"
#include "session/job.h"
#include "session/oneshot_fixture.h"
#include "support/golden_args.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;
using testing::golden_json;

std::vector<std::string> golden_cases() {
  std::vector<std::string> names;
  const Json index = golden_json("oneshot/index.json");
  for (const auto& [name, spec] : index.items()) names.push_back(name);
  return names;
}

class OneshotGolden : public ::testing::TestWithParam<std::string> {
 protected:
  fs::path golden() const { return kOneshotGoldens / GetParam(); }

  Options options() const {
    const Json spec = golden_json("oneshot/index.json")[GetParam()];
    Options options;
    options.model = (kOneshotGoldens / spec["base"].get<std::string>()).string();
    options.recipe = {(golden() / "recipe.yaml").string()};
    options.save_compressed = spec["save_compressed"].get<bool>();
    return options;
  }

  void expect_golden_tensors(const fs::path& folder) const {
    const Json expected = golden_json(fs::path("oneshot") / GetParam() / "tensors.json");
    auto checkpoint = Checkpoint::open(folder.string());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message();
    EXPECT_EQ((*checkpoint)->tensors().size(), expected.size());
    for (const auto& [name, spec] : expected.items()) {
      const auto tensor = (*checkpoint)->load(name);
      ASSERT_TRUE(tensor.ok()) << tensor.error().message();
      EXPECT_EQ(safetensors_name(tensor->dtype()), spec[0].get<std::string>()) << name;
      EXPECT_EQ(tensor->shape(), spec[1].get<Shape>()) << name;
      EXPECT_EQ(sha256_hex(tensor->bytes()).substr(0, 16), spec[2].get<std::string>()) << name;
    }
  }
};

TEST_P(OneshotGolden, ReferenceModeWritesWhatTheReferenceWrites) {
  OneshotRun run;
  Options reference = options();
  reference.reference = true;
  reference.output_dir = run.output().string();
  const auto report = run.start(reference);
  ASSERT_TRUE(report.ok()) << report.error().message();
  expect_golden_tensors(run.output());
  EXPECT_EQ(*read_text_file(run.output() / "config.json"), *read_text_file(golden() / "config.json"));
  EXPECT_EQ(*read_text_file(run.output() / "recipe.yaml"), *read_text_file(golden() / "recipe.yaml"));
}

// Where we have nothing better, the default is the reference.
TEST_P(OneshotGolden, DefaultModeWritesTheSameTensors) {
  OneshotRun run;
  Options usual = options();
  usual.output_dir = run.output().string();
  const auto report = run.start(usual);
  ASSERT_TRUE(report.ok()) << report.error().message();
  expect_golden_tensors(run.output());
}

INSTANTIATE_TEST_SUITE_P(DataFree, OneshotGolden, ::testing::ValuesIn(golden_cases()),
                         [](const auto& parameter) { return parameter.param; });

}  // namespace
}  // namespace nibble
