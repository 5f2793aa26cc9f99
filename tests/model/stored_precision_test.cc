// SPDX-License-Identifier: Apache-2.0
// The forward in BF16 against PyTorch's: outputs of every block of models with outliers. The two differ where
// the order of a sum inside the attention pushes a value over a rounding border, and what follows from there;
// the forward in F32 is at least twice as far away.
#include <gtest/gtest.h>

#include <cmath>

#include "model/transformer.h"
#include "model_test_util.h"

namespace nibble {
namespace {

class StoredPrecisionTest : public testing::TestWithParam<const char*> {};

double relative_difference(const Matrix& x, const Tensor& reference) {
  std::vector<float> expected(x.values().size());
  reference.decode_f32(0, expected);
  double difference = 0, total = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double d = x.values()[i] - expected[i];
    difference += d * d;
    total += static_cast<double>(expected[i]) * expected[i];
  }
  return std::sqrt(difference / total);
}

TEST_P(StoredPrecisionTest, BlocksGiveWhatPyTorchGives) {
  TestContext test;
  const auto checkpoint = open_checkpoint(golden_root() / "oneshot" / GetParam());
  const auto golden =
      open_checkpoint(golden_root() / "bf16-forward" / (std::string(GetParam()) + ".safetensors"));
  const Tensor ids = golden->load("input_ids").value();
  Batch batch;
  for (const std::int64_t id : ids.as<std::int64_t>()) batch.ids.push_back(static_cast<TokenId>(id));
  batch.length = static_cast<std::int64_t>(batch.ids.size());
  const auto outputs = [&](DType dtype) {
    auto model =
        Transformer::open(test.context, *checkpoint,
                          {.residency = Residency::kStream, .linears = {}, .activation_dtype = dtype});
    return model.value()->outputs(test.context, batch, true).value().hidden_states;
  };
  const auto narrow = outputs(DType::kBF16), wide = outputs(DType::kF32);
  for (std::size_t block = 0; block + 1 < narrow.size(); ++block) {
    const Tensor expected = golden->load("hidden_states." + std::to_string(block)).value();
    EXPECT_LT(relative_difference(narrow[block + 1], expected),
              0.5 * relative_difference(wide[block + 1], expected))
        << "block " << block;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, StoredPrecisionTest, testing::Values("base-llama", "base-mixtral"));

}  // namespace
}  // namespace nibble
