// SPDX-License-Identifier: Apache-2.0
// GGUF files of the golden models, written by llama.cpp's converter in F16, run by the same forward: permuted
// q and k, norms with an offset, stacked experts and renamed tensors must come out right.
#include <gtest/gtest.h>

#include <cmath>

#include "model/model_test_util.h"
#include "model/transformer.h"

namespace nibble {
namespace {

std::filesystem::path gguf(const std::string& name) {
  return golden_root() / "checkpoint/gguf" / (name + ".gguf");
}

double relative_error(std::span<const float> got, const std::vector<float>& wanted) {
  EXPECT_EQ(got.size(), wanted.size());
  double error = 0, power = 0;
  for (std::size_t i = 0; i < std::min(got.size(), wanted.size()); ++i) {
    const double difference = static_cast<double>(got[i]) - static_cast<double>(wanted[i]);
    error += difference * difference;
    power += static_cast<double>(wanted[i]) * static_cast<double>(wanted[i]);
  }
  return std::sqrt(error / power);
}

TEST(GgufForwardTest, LogitsEqualTheGoldensUpToFp16Weights) {
  for (const char* name :
       {"gemma", "gemma3", "gpt2", "gpt_neox", "llama-bias", "mixtral", "phi3", "qwen3", "starcoder2"}) {
    SCOPED_TRACE(name);
    TestContext test;
    FakeCheckpoint checkpoint(open_checkpoint(gguf(name)));
    // GGUF has no place for this model's layer pattern and attention scale.
    if (std::string_view(name) == "gemma3")
      checkpoint.config() = open_checkpoint(golden_model(name))->config();
    auto model = Transformer::open(test.context, checkpoint);
    ASSERT_TRUE(model.ok()) << model.error().message();
    const Golden golden(golden_model(name));
    const Outputs out = (*model)->outputs(test.context, golden.batch()).value();
    EXPECT_LT(relative_error(out.logits.values(), golden.tensor("logits").to_f32()), 2e-3);
  }
}

TEST(GgufForwardTest, EncodersGiveTheirLastHiddenState) {
  TestContext test;
  const auto checkpoint = open_checkpoint(gguf("bert-qa"));
  const auto model = Transformer::open(test.context, *checkpoint).value();
  const Golden golden(golden_model("bert-qa"));
  Batch batch = golden.batch();
  batch.sequences = 1;  // the row without padding
  for (auto* values : {&batch.ids, &batch.token_types})
    values->resize(static_cast<std::size_t>(batch.length));
  batch.mask.clear();
  const Outputs out = model->outputs(test.context, batch).value();
  std::vector<float> wanted = golden.tensor("layer_output.2").to_f32();
  wanted.resize(out.last_hidden.values().size());
  EXPECT_LT(relative_error(out.last_hidden.values(), wanted), 2e-3);
}

TEST(GgufForwardTest, AnF32FileGivesTheLogitsOfItsFolder) {
  TestContext test;
  const auto folder = open_checkpoint(std::filesystem::path(NIBBLE_SOURCE_DIR) / "data/models/stories260K");
  const auto file = open_checkpoint(gguf("stories260K"));
  const auto a = Transformer::open(test.context, *folder).value();
  const auto b = Transformer::open(test.context, *file).value();
  const Batch batch = Batch::of({1, 403, 407, 261, 378, 31, 256, 4, 90, 120});
  EXPECT_TRUE(std::ranges::equal(a->outputs(test.context, batch)->logits.values(),
                                 b->outputs(test.context, batch)->logits.values()));
  EXPECT_EQ(a->description().modules.size(), b->description().modules.size());
}

}  // namespace
}  // namespace nibble
