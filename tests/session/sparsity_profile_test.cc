// SPDX-License-Identifier: Apache-2.0
// Whole runs of what changes where pruning happens: profiles over the blocks, channels in another order, and
// tokens that do not count.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "checkpoint/sharded_writer.h"
#include "model/transformer.h"
#include "session/divergence_survey.h"
#include "session/oneshot_fixture.h"
#include "support/golden_tensors.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;
using testing::GoldenTensors;
using ::testing::HasSubstr;

std::string recipe(const std::string& modifiers) {
  return "run_stage:\n  run_modifiers:\n" + modifiers;
}
const std::string kEnds = "targets: [Linear], ignore: [lm_head, \"re:.*gate$\"]}\n";
const std::string kKl =
    recipe("    SparseGPTModifier: {sparsity: 0.5, sparsity_profile: kl, kl_lmbda: 0.1, " + kEnds);
const std::string kOwl = recipe(
    "    SparseGPTModifier: {sparsity: 0.5, sparsity_profile: owl, owl_m: 3, owl_lmbda: 0.1, " + kEnds);
const std::string kPermute = recipe("    ChannelPermutationModifier: {}\n");
const std::string kWanda =
    recipe("    WandaPruningModifier: {sparsity: 0.5, mask_structure: \"2:4\", " + kEnds);

Options options(const OneshotRun& run, const std::string& text, const char* base = "base-mini") {
  Options options;
  options.model = (kOneshotGoldens / base).string();
  options.recipe = {text};
  options.dataset = kCalibrationIds.string();
  options.num_calibration_samples = 16;
  options.output_dir = run.output().string();
  return options;
}

// Zeros of all weights that may be pruned, and of each block.
double zeros(const fs::path& folder, std::map<int, double>& by_block) {
  const auto checkpoint = Checkpoint::open(folder.string());
  EXPECT_TRUE(checkpoint.ok());
  const auto model = describe_model(**checkpoint);
  EXPECT_TRUE(model.ok());
  std::map<int, std::pair<double, double>> counts;
  double all = 0, none = 0;
  for (const ModuleInfo& module : model->modules) {
    if (module.kind != ModuleKind::kLinear || module.block < 0) continue;
    const auto tensor = (*checkpoint)->load(module.weight);
    EXPECT_TRUE(tensor.ok());
    const std::vector<float> values = tensor->to_f32();
    const auto zero = static_cast<double>(std::ranges::count(values, 0.0F));
    counts[module.block].first += zero;
    counts[module.block].second += static_cast<double>(values.size());
    none += zero;
    all += static_cast<double>(values.size());
  }
  for (const auto& [block, count] : counts) by_block[block] = count.first / count.second;
  return none / all;
}

TEST(SparsityProfileTest, ProfilesKeepTheMeanAndDoNotDependOnThreadsOrMemory) {
  for (const std::string& text : {kKl, kOwl}) {
    std::set<std::string> hashes;
    for (const int threads : {1, 3}) {
      OneshotRun run;
      Options wanted = options(run, text);
      if (threads == 3) wanted.memory_budget = "100KB";
      const auto report = run.start(wanted, threads);
      ASSERT_TRUE(report.ok()) << report.error().message();
      std::map<int, double> by_block;
      EXPECT_NEAR(zeros(run.output(), by_block), 0.5, 0.002) << text;
      EXPECT_GT(std::fabs(by_block[0] - by_block[1]), 0.01) << text;
      for (const auto& [block, share] : by_block) EXPECT_NEAR(share, 0.5, 0.102);
      hashes.insert(weights_hash(run.output()));
    }
    EXPECT_EQ(hashes.size(), 1u);
  }
}

TEST(SparsityProfileTest, WhatCannotBeMeasuredIsRefused) {
  OneshotRun run;
  Options structured = options(run, recipe("    WandaPruningModifier: {sparsity: 0.5, sparsity_profile: kl, "
                                           "mask_structure: \"2:4\", " +
                                           kEnds));
  const auto first = run.prepare(structured);
  ASSERT_FALSE(first.ok());
  EXPECT_THAT(first.error().message(), HasSubstr("N:M fixes the sparsity"));
  Options strict = options(run, kKl);
  strict.reference = true;
  const auto second = run.prepare(strict);
  ASSERT_FALSE(second.ok());
}

// The survey against the model itself, with one block changed.
TEST(DivergenceSurveyTest, IsTheDivergenceOfTheWholeModelWithOneBlockChanged) {
  ThreadPool pool(2);
  EventLog log;
  StopToken stop;
  Context context{pool, log, stop};
  const auto checkpoint = Checkpoint::open((kOneshotGoldens / "base-mini").string());
  ASSERT_TRUE(checkpoint.ok());
  auto model = Transformer::open(context, **checkpoint, {.residency = Residency::kStream});
  ASSERT_TRUE(model.ok());
  CalibrationData data;
  for (TokenId first = 0; first < 3; ++first) {
    Batch batch;
    batch.length = 16;
    for (TokenId t = 0; t < 16; ++t) batch.ids.push_back(5 * first + t + 1);
    data.batches.push_back(batch);
  }
  MemoryBudget budget(std::uint64_t{1} << 24);
  auto survey = DivergenceSurvey::create(context, **model, data,
                                         {.budget = budget, .spill_folder = fs::temp_directory_path()}, 32);
  ASSERT_TRUE(survey.ok());
  const int blocks = (*model)->description().num_blocks;
  const auto change = [](Block& block) {
    for (float& w : block.linears()[0]->dense()->mutable_weight().values()) w *= 0.5F;
  };
  for (int b = 0; b < blocks; ++b) {
    auto block = (*model)->load_block(context, b);
    ASSERT_TRUE(block.ok());
    ASSERT_TRUE((*survey)->pass(**block).ok());
    if (b == 1) change(**block);
    ASSERT_TRUE((*survey)->try_changed(**block).ok());
  }
  const auto found = (*survey)->divergences();
  ASSERT_TRUE(found.ok());
  ASSERT_EQ(found->size(), static_cast<std::size_t>(blocks));
  EXPECT_NEAR((*found)[0], 0.0, 1e-12);  // nothing changed
  // By hand.
  double sum = 0;
  int count = 0;
  for (const Batch& batch : data.batches) {
    Matrix logits[2];
    for (int which = 0; which < 2; ++which) {
      auto pass = (*model)->begin(context, batch);
      auto hidden = (*model)->embed(context, batch);
      ASSERT_TRUE(pass.ok() && hidden.ok());
      for (int b = 0; b < blocks; ++b) {
        auto block = (*model)->load_block(context, b);
        if (which == 1 && b == 1) change(**block);
        *hidden = (*block)->forward(*pass, std::move(*hidden));
      }
      logits[which] = (*model)->head().logits(context, *hidden, 0, 16);
    }
    for (std::int64_t r = 3; r < 16; r += 4, ++count) {
      double norm[2] = {0, 0};
      for (int which = 0; which < 2; ++which)
        for (const float x : logits[which].row(r)) norm[which] += std::exp(static_cast<double>(x));
      for (std::int64_t v = 0; v < logits[0].cols(); ++v) {
        const double p = std::exp(static_cast<double>(logits[0].at(r, v))) / norm[0];
        const double q = std::exp(static_cast<double>(logits[1].at(r, v))) / norm[1];
        sum += p * std::log(p / q);
      }
    }
  }
  EXPECT_NEAR((*found)[1], sum / count, 1e-6 * (1 + sum / count));
  EXPECT_GT((*found)[1], 1e-6);
}

TEST(ChannelPermutationRun, KeepsTheModelsFunction) {
  for (const char* base : {"base-mini", "base-mixtral"}) {
    OneshotRun run;
    const auto report = run.start(options(run, kPermute, base));
    ASSERT_TRUE(report.ok()) << report.error().message();
    EXPECT_NE(weights_hash(run.output()), weights_hash(kOneshotGoldens / base)) << "nothing moved";
    ThreadPool pool(2);
    Context context{pool, run.log, run.stop};
    const Batch batch = Batch::of({1, 7, 3, 12, 9, 40, 2, 8});
    Matrix logits[2];
    const fs::path folders[2] = {kOneshotGoldens / base, run.output()};
    for (int which = 0; which < 2; ++which) {
      const auto checkpoint = Checkpoint::open(folders[which].string());
      ASSERT_TRUE(checkpoint.ok());
      auto model = Transformer::open(context, **checkpoint);
      ASSERT_TRUE(model.ok());
      auto outputs = (*model)->outputs(context, batch);
      ASSERT_TRUE(outputs.ok());
      logits[which] = std::move(outputs->logits);
    }
    float largest = 0;
    for (const float x : logits[0].values()) largest = std::max(largest, std::fabs(x));
    for (std::size_t i = 0; i < logits[0].values().size(); ++i)
      ASSERT_NEAR(logits[0].values()[i], logits[1].values()[i], 1e-5F * largest) << base;
  }
}

TEST(ChannelPermutationRun, GoesBeforeNmPruning) {
  const auto error_of_down = [](const std::string& text) {
    OneshotRun run;
    const auto report = run.start(options(run, text));
    EXPECT_TRUE(report.ok()) << report.error().message();
    return report.ok() ? weights_hash(run.output()) : "";
  };
  const std::string with =
      kPermute + "    WandaPruningModifier: {sparsity: 0.5, mask_structure: \"2:4\", " + kEnds;
  EXPECT_NE(error_of_down(with), error_of_down(kWanda));
}

TEST(LossMaskTest, MaskedTokensAreAsIfTheyWereNotThere) {
  // A mask over everything is no mask; another one changes the result; without one the option is refused.
  const Tensor ids = GoldenTensors("calibrated/calib_ids.safetensors").get("input_ids");
  const auto hash_with = [&](const std::function<std::int64_t(std::size_t)>& mask, bool used,
                             int threads = 2) {
    OneshotRun run;
    std::vector<std::int64_t> values(static_cast<std::size_t>(ids.size()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = mask(i);
    const fs::path file = run.folder() / "data.safetensors";
    EXPECT_TRUE(write_safetensors_file(
                    file, {{"input_ids", ids},
                           {"loss_mask", Tensor::of<std::int64_t>(DType::kI64, ids.shape(), values)}})
                    .ok());
    Options wanted = options(run, {});
    wanted.recipe.clear();
    wanted.scheme = "W4A16";
    wanted.method = "awq+gptq";
    wanted.group_size = 32;
    wanted.dataset = file.string();
    wanted.use_loss_mask = used;
    const auto report = run.start(wanted, threads);
    EXPECT_TRUE(report.ok()) << report.error().message();
    return report.ok() ? weights_hash(run.output()) : "";
  };
  const auto all = [](std::size_t) { return std::int64_t{1}; };
  const auto some = [](std::size_t i) { return std::int64_t{i % 64 > 20}; };
  EXPECT_EQ(hash_with(all, true), hash_with(some, false));
  EXPECT_NE(hash_with(some, true), hash_with(all, true));
  EXPECT_EQ(hash_with(some, true, 1), hash_with(some, true, 4));
  OneshotRun run;
  Options without = options(run, kPermute);
  without.use_loss_mask = true;
  const auto job = run.prepare(without);
  ASSERT_FALSE(job.ok());
  EXPECT_THAT(job.error().message(), HasSubstr("holds no loss_mask"));
}

TEST(ActivationHookTest, TheSameInputIsAcceptedAnotherIsRefused) {
  const auto with = [](const std::string& target) {
    OneshotRun run;
    Options wanted = options(
        run,
        recipe("    AWQModifier:\n      mappings:\n      - {smooth_layer: \"re:.*post_attention_layernorm\", "
               "balance_layers: [\"re:.*gate_proj\", \"re:.*up_proj\"]" +
               target +
               "}\n    QuantizationModifier: {scheme: W4A16, targets: [Linear], ignore: [lm_head], "
               "bypass_divisibility_checks: true}\n"));
    const auto report = run.start(wanted);
    return report.ok() ? weights_hash(run.output()) : report.error().message();
  };
  const std::string plain = with("");
  EXPECT_EQ(with(", activation_hook_target: mlp"), plain);
  EXPECT_EQ(with(", activation_hook_target: mlp.up_proj"), plain);
  EXPECT_THAT(with(", activation_hook_target: self_attn"), HasSubstr("has another input"));
  EXPECT_THAT(with(", activation_hook_target: mpl"), HasSubstr("is no module"));
}

}  // namespace
}  // namespace nibble
