// SPDX-License-Identifier: Apache-2.0
// The one forward against the reference's outputs, for every golden model.
#include <gtest/gtest.h>

#include <cmath>

#include "model/model_test_util.h"
#include "model/transformer.h"

namespace nibble {
namespace {

// Largest |difference| over rows that count, and largest |wanted|.
struct Distance {
  double difference = 0, scale = 0;
};

Distance distance(std::span<const float> got, std::span<const float> wanted, const Batch& batch) {
  Distance out;
  EXPECT_EQ(got.size(), wanted.size());
  if (got.size() != wanted.size()) return {1e30, 1};
  const bool by_token = got.size() % static_cast<std::size_t>(batch.tokens()) == 0;
  const std::size_t width = by_token ? got.size() / static_cast<std::size_t>(batch.tokens()) : got.size();
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (by_token && !batch.mask.empty() && batch.mask[i / width] == 0) continue;
    const double difference = std::fabs(static_cast<double>(got[i]) - static_cast<double>(wanted[i]));
    out.difference = std::isnan(difference) ? 1e30 : std::max(out.difference, difference);
    out.scale = std::max(out.scale, std::fabs(static_cast<double>(wanted[i])));
  }
  return out;
}

void expect_close(std::string_view what, std::span<const float> got, const Tensor& wanted,
                  const Batch& batch) {
  const Distance d = distance(got, wanted.to_f32(), batch);
  EXPECT_LE(d.difference, 1e-4 * d.scale) << what;
  EXPECT_GT(d.scale, 0) << what;
}

class ForwardTest : public ::testing::TestWithParam<std::filesystem::path> {};

TEST_P(ForwardTest, OutputsEqualTheReference) {
  TestContext test;
  const auto checkpoint = open_checkpoint(GetParam());
  const Golden golden(GetParam());
  const Batch batch = golden.batch();
  auto model = Transformer::open(test.context, *checkpoint);
  ASSERT_TRUE(model.ok()) << model.error().message();
  const auto out = (*model)->outputs(test.context, batch, true);
  ASSERT_TRUE(out.ok()) << out.error().message();

  int compared = 0;
  const std::map<std::string, std::span<const float>> ours = {{"logits", out->logits.values()},
                                                              {"start_logits", out->start_logits.values()},
                                                              {"end_logits", out->end_logits.values()},
                                                              {"hidden_states", out->last_hidden.values()}};
  for (const auto& [name, values] : ours) {
    if (!golden.has(name)) continue;
    expect_close(name, values, golden.tensor(name), batch);
    ++compared;
  }
  EXPECT_GE(compared, 1);
  for (std::size_t i = 0; i < out->hidden_states.size(); ++i) {
    const std::string name = i == 0 ? "layer_input.0" : "layer_output." + std::to_string(i - 1);
    if (golden.has(name)) expect_close(name, out->hidden_states[i].values(), golden.tensor(name), batch);
  }
}

TEST_P(ForwardTest, StreamedBlocksAndOtherThreadCountsGiveTheSameBytes) {
  const auto checkpoint = open_checkpoint(GetParam());
  const Batch batch = Golden(GetParam()).batch();
  TestContext one(1);
  TestContext three(3);
  const auto whole = Transformer::open(one.context, *checkpoint).value();
  const auto streamed =
      Transformer::open(three.context, *checkpoint, {.residency = Residency::kStream, .linears = load_linear})
          .value();
  const Outputs a = whole->outputs(one.context, batch).value();
  const Outputs b = streamed->outputs(three.context, batch).value();
  EXPECT_TRUE(std::ranges::equal(a.last_hidden.values(), b.last_hidden.values()));
  EXPECT_TRUE(std::ranges::equal(a.logits.values(), b.logits.values()));
}

TEST_P(ForwardTest, StagesOneByOneEqualTheWholeBlock) {
  TestContext test;
  const auto checkpoint = open_checkpoint(GetParam());
  const Batch batch = Golden(GetParam()).batch();
  const auto model = Transformer::open(test.context, *checkpoint).value();
  const Pass pass = model->begin(test.context, batch).value();
  Matrix hidden = model->embed(test.context, batch).value();
  for (int i = 0; i < model->description().num_blocks; ++i) {
    const Block& block = model->block(i);
    BlockState state = block.start(pass, hidden);
    for (int stage = 0; stage < Block::kStages; ++stage) block.run_stage(pass, state, stage);
    hidden = block.forward(pass, std::move(hidden));
    ASSERT_TRUE(std::ranges::equal(hidden.values(), state.hidden.values()));
  }
}

std::string folder_name(const ::testing::TestParamInfo<std::filesystem::path>& info) {
  std::string name = info.param.filename().string();
  std::ranges::replace(name, '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Goldens, ForwardTest, ::testing::ValuesIn(golden_models()), folder_name);

// Older files and files of the bare model name tensors otherwise; the outputs are the same bytes.
TEST(OldNamesTest, GiveTheSameOutputs) {
  using Renames = std::vector<std::pair<std::string, std::string>>;
  const std::map<std::string, Renames> cases = {
      {"gpt2", {{"transformer.", ""}}},
      {"bert-qa", {{"LayerNorm.weight", "LayerNorm.gamma"}, {"LayerNorm.bias", "LayerNorm.beta"}}},
      {"opt", {{"model.decoder.", "decoder."}}},
      {"mixtral",
       {{"block_sparse_moe", "mlp"},
        {".w1.", ".gate_proj."},
        {".w2.", ".down_proj."},
        {".w3.", ".up_proj."}}},
      {"gpt_neox", {{"embed_out", "lm_head"}}},
      {"gemma3-wrapper", {{"model.language_model.", "language_model.model."}}},
      {"bert-bare",
       {{"encoder.", "bert.encoder."}, {"embeddings.", "bert.embeddings."}, {"pooler.", "bert.pooler."}}},
  };
  for (const auto& [name, renames] : cases) {
    SCOPED_TRACE(name);
    TestContext test;
    const auto checkpoint = open_checkpoint(golden_model(name));
    FakeCheckpoint renamed(open_checkpoint(golden_model(name)));
    for (const auto& [from, to] : renames) renamed.rename(from, to);
    const Batch batch = Golden(golden_model(name)).batch();
    auto a = Transformer::open(test.context, *checkpoint);
    auto b = Transformer::open(test.context, renamed);
    ASSERT_TRUE(b.ok()) << b.error().message();
    EXPECT_TRUE((*b)->description().unused_tensors.empty() || name == "gemma3-wrapper");
    EXPECT_TRUE(std::ranges::equal((*a)->outputs(test.context, batch)->last_hidden.values(),
                                   (*b)->outputs(test.context, batch)->last_hidden.values()));
  }
}

TEST(NegativeLogLikelihoodTest, EqualsTheGoldenLossAndSkipsNegativeTargets) {
  TestContext test;
  for (const char* name : {"llama", "gemma", "opt", "gpt2", "qwen3", "opt-postnorm", "gemma2"}) {
    SCOPED_TRACE(name);
    const auto checkpoint = open_checkpoint(golden_model(name));
    const Golden golden(golden_model(name));
    const Batch batch = golden.batch();
    const auto model = Transformer::open(test.context, *checkpoint).value();
    const Matrix hidden = model->hidden(test.context, batch, {}).value();
    const Matrix logits = model->head().logits(test.context, hidden, 0, hidden.rows());
    std::vector<TokenId> target(static_cast<std::size_t>(batch.tokens()), -1);
    for (std::size_t t = 0; t + 1 < static_cast<std::size_t>(batch.length); ++t) target[t] = batch.ids[t + 1];
    std::vector<double> nll(target.size());
    ASSERT_TRUE(model->head().negative_log_likelihood(test.context, hidden, target, nll).ok());
    for (std::size_t t = 0; t < target.size(); ++t) {
      if (target[t] < 0) {
        EXPECT_EQ(nll[t], 0);
        continue;
      }
      double sum = 0;
      for (const float x : logits.row(static_cast<std::int64_t>(t))) sum += std::exp(static_cast<double>(x));
      EXPECT_NEAR(nll[t],
                  std::log(sum) - static_cast<double>(logits.at(static_cast<std::int64_t>(t), target[t])),
                  1e-5);
    }
  }
}

TEST(BatchTest, WrongBatchesAreRefusedWithTheValue) {
  TestContext test;
  const auto checkpoint = open_checkpoint(golden_model("gpt2"));
  const auto model = Transformer::open(test.context, *checkpoint).value();
  const auto message = [&](const Batch& batch) {
    const auto out = model->outputs(test.context, batch);
    return out.ok() ? std::string("accepted") : out.error().message();
  };
  EXPECT_NE(message(Batch::of({1, 2, 320})).find("320"), std::string::npos);
  EXPECT_NE(message(Batch::of({1, -1})).find("-1"), std::string::npos);
  EXPECT_NE(message(Batch::of({})).find("0 ids"), std::string::npos);
  EXPECT_NE(message(Batch::of(std::vector<TokenId>(65, 3))).find("64"), std::string::npos);
  Batch masked = Batch::of({1, 2, 3});
  masked.mask = {1, 1};
  EXPECT_NE(message(masked).find("attention_mask"), std::string::npos);
}

class CountingTap final : public Tap {
 public:
  void on_input(const LinearInfo& linear, const TapInput& input) override {
    std::int64_t& count = rows[linear.name];
    for (std::int64_t r = 0; r < input.rows; ++r) count += input.mask == nullptr || input.mask[r] != 0;
    double& total = sum[linear.name];
    for (std::int64_t i = 0; i < input.rows * input.cols; ++i) total += static_cast<double>(input.x[i]);
  }
  void on_output(const LinearInfo& linear, const TapInput& output) override {
    outputs[linear.name] += output.rows;
  }
  void on_key_value(const std::string& attention, std::int64_t, const TapInput& key,
                    const TapInput&) override {
    keys[attention] += key.rows;
  }
  std::map<std::string, std::int64_t> rows, outputs, keys;
  std::map<std::string, double> sum;
};

TEST(TapTest, SeesEveryLinearOfTheBlocksOnceAndNoPadding) {
  TestContext test;
  const auto checkpoint = open_checkpoint(golden_model("llama-padded"));
  const Batch batch = Golden(golden_model("llama-padded")).batch();
  const auto model = Transformer::open(test.context, *checkpoint).value();
  CountingTap tap;
  ASSERT_TRUE(model->hidden(test.context, batch, {.tap = &tap, .on_layer = {}}).ok());
  EXPECT_EQ(tap.rows.size(), 14u);
  for (const auto& [name, rows] : tap.rows) EXPECT_EQ(rows, 40 - 6) << name;
  for (const auto& [name, rows] : tap.outputs) EXPECT_EQ(rows, 40) << name;
  EXPECT_EQ(tap.keys.at("model.layers.1.self_attn"), 40);
}

TEST(TapTest, StageInputsEqualThoseOfTheForward) {
  for (const char* name : {"llama", "mixtral", "qwen2_moe", "bert-qa", "stablelm-parallel"}) {
    SCOPED_TRACE(name);
    TestContext test;
    const auto checkpoint = open_checkpoint(golden_model(name));
    const Batch batch = Golden(golden_model(name)).batch();
    const auto model = Transformer::open(test.context, *checkpoint).value();
    CountingTap whole;
    ASSERT_TRUE(model->hidden(test.context, batch, {.tap = &whole, .on_layer = {}}).ok());
    CountingTap staged;
    const Pass pass = model->begin(test.context, batch).value();
    Matrix hidden = model->embed(test.context, batch).value();
    for (int i = 0; i < model->description().num_blocks; ++i) {
      BlockState state = model->block(i).start(pass, std::move(hidden));
      for (int stage = 0; stage < Block::kStages; ++stage) {
        model->block(i).visit_inputs(pass, state, stage, staged);
        model->block(i).run_stage(pass, state, stage);
      }
      hidden = std::move(state.hidden);
    }
    EXPECT_EQ(whole.rows, staged.rows);
    EXPECT_EQ(whole.sum, staged.sum);
  }
}

TEST(MixtureTest, AllExpertsSeeAllTokensWithoutChangingTheOutput) {
  for (const char* name : {"mixtral", "qwen3_moe", "qwen2_moe"}) {
    SCOPED_TRACE(name);
    TestContext test;
    const auto checkpoint = open_checkpoint(golden_model(name));
    const Batch batch = Golden(golden_model(name)).batch();
    const auto model = Transformer::open(test.context, *checkpoint).value();
    CountingTap routed, all;
    const Matrix a = model->hidden(test.context, batch, {.tap = &routed, .on_layer = {}}).value();
    const Matrix b =
        model->hidden(test.context, batch, {.tap = &all, .all_experts = true, .on_layer = {}}).value();
    EXPECT_TRUE(std::ranges::equal(a.values(), b.values()));
    for (const ModuleInfo& module : model->description().modules) {
      if (module.expert < 0 || module.kind != ModuleKind::kLinear) continue;
      EXPECT_EQ(all.rows.at(module.name), batch.tokens());
      EXPECT_LT(routed.rows[module.name], batch.tokens());
    }
  }
}

TEST(ReplaceTest, AReplacedLinearIsUsedByTheNextForward) {
  TestContext test;
  const auto checkpoint = open_checkpoint(golden_model("llama"));
  const Batch batch = Golden(golden_model("llama")).batch();
  const auto model = Transformer::open(test.context, *checkpoint).value();
  const Matrix before = model->hidden(test.context, batch, {}).value();
  Block& block = model->block(1);
  const Linear& down = *block.linear("model.layers.1.mlp.down_proj");
  block.replace(std::make_unique<DenseLinear>(down.info(), Matrix(down.info().rows, down.info().cols),
                                              std::vector<float>()));
  const Matrix after = model->hidden(test.context, batch, {}).value();
  EXPECT_FALSE(std::ranges::equal(before.values(), after.values()));
}

}  // namespace
}  // namespace nibble
