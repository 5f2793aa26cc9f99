// SPDX-License-Identifier: Apache-2.0
// The forward in BF16 against eager PyTorch's: outputs of every block of a model with outliers. The two
// differ only where the order of a sum pushes a value over a rounding border.
#include <gtest/gtest.h>

#include "model/transformer.h"
#include "model_test_util.h"

namespace nibble {
namespace {

class StoredPrecisionTest : public testing::TestWithParam<const char*> {};

double share_of_equal(const Matrix& x, const Tensor& reference) {
  std::vector<float> expected(x.values().size());
  reference.decode_f32(0, expected);
  std::int64_t equal = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) equal += x.values()[i] == expected[i];
  return static_cast<double>(equal) / static_cast<double>(expected.size());
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
  auto model =
      Transformer::open(test.context, *checkpoint,
                        {.residency = Residency::kStream, .linears = {}, .activation_dtype = DType::kBF16});
  const auto states = model.value()->outputs(test.context, batch, true).value().hidden_states;
  for (std::size_t block = 0; block + 1 < states.size(); ++block) {
    const Tensor expected = golden->load("hidden_states." + std::to_string(block)).value();
    EXPECT_GT(share_of_equal(states[block + 1], expected), 0.95) << "block " << block;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, StoredPrecisionTest, testing::Values("base-llama", "base-mini"));

}  // namespace
}  // namespace nibble
