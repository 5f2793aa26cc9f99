// SPDX-License-Identifier: Apache-2.0
// Linears outside the blocks (heads, poolers, classifiers, projections of embeddings) in calibrated runs:
// what is gathered is what they read, what is done is what the solver does with it, and nothing of it depends
// on threads or on a stop.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "base/json.h"
#include "calibrate/statistics_file.h"
#include "checkpoint/quantized_checkpoint.h"
#include "checkpoint/sharded_writer.h"
#include "model/transformer.h"
#include "modify/gptq.h"
#include "session/oneshot_fixture.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr std::int64_t kSequences = 6, kLength = 24;

// Ids that every small model has, and no padding.
TokenId id_at(std::int64_t i) {
  return static_cast<TokenId>(5 + (i * 37 + i * i * 11) % 90);
}

fs::path write_ids(const fs::path& folder) {
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < kSequences * kLength; ++i) ids.push_back(id_at(i));
  const fs::path file = folder / "ids.safetensors";
  EXPECT_TRUE(write_safetensors_file(
                  file, {{"input_ids", Tensor::of<std::int64_t>(DType::kI64, {kSequences, kLength}, ids)}})
                  .ok());
  return file;
}

std::string golden_folder(const std::string& base) {
  const fs::path root = fs::path(NIBBLE_SOURCE_DIR) / "tests/golden";
  for (const char* area : {"oneshot", "models", "models-more"}) {
    if (fs::exists(root / area / base)) return (root / area / base).string();
  }
  ADD_FAILURE() << base;
  return {};
}

std::string gptq_of(const std::string& target, const std::string& ignore = "[]") {
  return "s_stage: {s_modifiers: {GPTQModifier: {target_correction: false, bias_correction: false, ignore: " +
         ignore + ", config_groups: {g: {targets: ['" + target +
         "'], weights: {num_bits: 4, type: int, symmetric: true, strategy: channel}}}}}}";
}

Options options_for(const OneshotRun& run, const std::string& base, const std::string& recipe) {
  Options options;
  options.model = golden_folder(base);
  options.recipe = {recipe};
  options.dataset = write_ids(run.folder()).string();
  options.num_calibration_samples = kSequences;
  options.batch_size = 2;
  options.precision = "fp32";
  options.output_dir = run.output().string();
  return options;
}

Matrix rows_of(const Matrix& from, const std::vector<std::int64_t>& rows) {
  Matrix out(static_cast<std::int64_t>(rows.size()), from.cols());
  for (std::size_t i = 0; i < rows.size(); ++i)
    std::ranges::copy(from.row(rows[i]), out.row(static_cast<std::int64_t>(i)).begin());
  return out;
}

// What the dense model gives on the calibration tokens.
struct Dense {
  explicit Dense(const std::string& base) : pool(2), context{pool, sink, stop} {
    checkpoint = Checkpoint::open(golden_folder(base)).value();
    model = Transformer::open(context, *checkpoint).value();
    batch.sequences = kSequences;
    batch.length = kLength;
    for (std::int64_t i = 0; i < kSequences * kLength; ++i) batch.ids.push_back(id_at(i));
    outputs = model->outputs(context, batch, true).value();
  }
  Matrix weight(const std::string& name) {
    const ModuleInfo* module = model->description().find(name);
    const std::string& tensor =
        module->weight.empty() ? model->description().find(module->tied_to)->weight : module->weight;
    return load_matrix(context, *checkpoint, tensor, module->rows, module->cols, false).value();
  }
  Matrix first_tokens() {
    std::vector<std::int64_t> rows;
    for (std::int64_t s = 0; s < kSequences; ++s) rows.push_back(s * kLength);
    return rows_of(outputs.hidden_states.back(), rows);
  }

  ThreadPool pool;
  NullSink sink;
  StopToken stop;
  Context context;
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Transformer> model;
  Batch batch;
  Outputs outputs;
};

Matrix tokens_read(Dense& dense) {
  std::vector<std::int64_t> rows(dense.batch.ids.begin(), dense.batch.ids.end());
  return rows_of(dense.weight("model.decoder.embed_tokens"), rows);
}

Matrix pooled(Dense& dense) {
  const Matrix x = dense.first_tokens(), w = dense.weight("bert.pooler.dense");
  const std::vector<float> bias = load_vector(*dense.checkpoint, "bert.pooler.dense.bias").value();
  Matrix out(x.rows(), w.rows());
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    for (std::int64_t o = 0; o < w.rows(); ++o) {
      double sum = bias[static_cast<std::size_t>(o)];
      for (std::int64_t c = 0; c < w.cols(); ++c) sum += static_cast<double>(x.at(r, c)) * w.at(o, c);
      out.at(r, o) = static_cast<float>(std::tanh(sum));
    }
  }
  return out;
}

struct Outside {
  const char* base;
  const char* module;
  std::function<Matrix(Dense&)> input;
};

class OutsideTest : public ::testing::TestWithParam<Outside> {};

INSTANTIATE_TEST_SUITE_P(
    Models, OutsideTest,
    ::testing::Values(
        Outside{"base-mini", "lm_head", [](Dense& dense) { return dense.outputs.last_hidden; }},
        Outside{"opt-postnorm", "lm_head", [](Dense& dense) { return dense.outputs.last_hidden; }},
        Outside{"opt-postnorm", "model.decoder.project_out",
                [](Dense& dense) { return dense.outputs.hidden_states.back(); }},
        Outside{"opt-postnorm", "model.decoder.project_in", tokens_read},
        Outside{"llama-seqcls", "score", [](Dense& dense) { return dense.outputs.last_hidden; }},
        Outside{"bert-qa", "qa_outputs", [](Dense& dense) { return dense.outputs.last_hidden; }},
        Outside{"bert-seqcls", "bert.pooler.dense", [](Dense& dense) { return dense.first_tokens(); }},
        Outside{"bert-seqcls", "classifier", pooled}),
    [](const auto& test) {
      std::string name = std::string(test.param.base) + "_" + test.param.module;
      std::ranges::replace_if(
          name, [](char c) { return std::isalnum(c) == 0; }, '_');
      return name;
    });

TEST_P(OutsideTest, WhatIsGatheredIsWhatItReads) {
  OneshotRun run;
  Options options = options_for(run, GetParam().base, gptq_of(GetParam().module));
  options.save_statistics = (run.folder() / "s.safetensors").string();
  const auto report = run.start(options);
  ASSERT_TRUE(report.ok()) << report.error().message();
  ASSERT_EQ(report->modules.size(), 1u);
  EXPECT_EQ(report->modules[0].changes.size(), 1u);

  Dense dense(GetParam().base);
  const Matrix x = GetParam().input(dense);
  const auto file = StatisticsFile::open(options.save_statistics);
  ASSERT_TRUE(file.ok()) << file.error().message();
  const auto saved = file->load_input("0", GetParam().module);
  ASSERT_TRUE(saved.ok()) << saved.error().message();
  EXPECT_EQ(saved->record.tokens, x.rows());
  EXPECT_EQ(saved->record.sequences, kSequences);
  ASSERT_NE(saved->record.hessian, nullptr);
  const Matrix& moments = saved->record.hessian->values;
  ASSERT_EQ(moments.rows(), x.cols());
  double largest = 0;
  for (const float value : moments.values()) largest = std::max(largest, std::abs(double{value}));
  for (std::int64_t i = 0; i < x.cols(); ++i) {
    for (std::int64_t j = 0; j < x.cols(); ++j) {
      double sum = 0;
      for (std::int64_t r = 0; r < x.rows(); ++r) sum += double{x.at(r, i)} * double{x.at(r, j)};
      ASSERT_NEAR(moments.at(i, j), sum / static_cast<double>(x.rows()), 2e-5 * largest) << i << " " << j;
    }
  }
}

// The weight that is written decodes to what the solver makes of the gathered moments.
TEST_P(OutsideTest, GptqIsTheSolverOnTheGatheredMoments) {
  OneshotRun run;
  Options options = options_for(run, GetParam().base, gptq_of(GetParam().module));
  options.save_statistics = (run.folder() / "s.safetensors").string();
  const auto report = run.start(options);
  ASSERT_TRUE(report.ok()) << report.error().message();

  Dense dense(GetParam().base);
  const auto saved = StatisticsFile::open(options.save_statistics)->load_input("0", GetParam().module);
  QuantizationArgs args;
  args.num_bits = 4;
  args.strategy = Strategy::kChannel;
  const Matrix weight = dense.weight(GetParam().module);
  auto written = Checkpoint::open(run.output().string());
  ASSERT_TRUE(written.ok()) << written.error().message();
  GptqOptions solver;
  solver.model_dtype = (*written)->find(std::string(GetParam().module) + ".weight_scale")->dtype;
  solver.refine.rounds = 1;
  const auto solved = gptq(dense.pool, weight, *saved->record.hessian, args, solver);
  ASSERT_TRUE(solved.ok()) << solved.error().message();
  const auto plain = decompressed(std::move(*written), dense.pool);
  ASSERT_TRUE(plain.ok()) << plain.error().message();
  const std::string tensor = std::string(GetParam().module) + ".weight";
  const std::vector<float> decoded = (*plain)->load(tensor)->to_f32();
  ASSERT_EQ(static_cast<std::int64_t>(decoded.size()), weight.rows() * weight.cols());
  for (std::int64_t i = 0; i < weight.rows() * weight.cols(); ++i)
    ASSERT_FLOAT_EQ(decoded[static_cast<std::size_t>(i)], solved->weight.data()[i]) << i;
}

// All linears, those outside the blocks too.
TEST(OutsideLinearsTest, ThreadsMemoryAndStopsDoNotChangeAByte) {
  for (const char* base : {"opt-postnorm", "bert-seqcls", "base-mini"}) {
    std::set<std::string> hashes;
    for (const int threads : {1, 2}) {
      OneshotRun run;
      Options options = options_for(run, base, gptq_of("Linear"));
      if (threads == 2) options.memory_budget = "100KB";
      const auto report = run.start(options, threads);
      ASSERT_TRUE(report.ok()) << base << ": " << report.error().message();
      hashes.insert(weights_hash(run.output()));
    }
    int stopped = 0;
    for (int event = 5; event < 60; event += 9) {
      OneshotRun run;
      ThreadPool pool(2);
      StopAt sink(run.stop, event);
      Context context{pool, sink, run.stop};
      Options options = options_for(run, base, gptq_of("Linear"));
      if (!run_oneshot(options, context).ok()) {
        ++stopped;
        OneshotRun next;
        options.resume = true;
        const auto second = next.start(options, 1);
        ASSERT_TRUE(second.ok()) << base << ": " << second.error().message();
        for (const ModuleRow& row : second->modules) EXPECT_EQ(row.changes.size(), 1u) << row.name;
      }
      hashes.insert(weights_hash(run.output()));
    }
    EXPECT_GE(stopped, 2) << base;
    EXPECT_EQ(hashes.size(), 1u) << base;
  }
}

// The blocks are calibrated behind the changed projection, as they will run.
TEST(OutsideLinearsTest, BlocksSeeTheChangedProjectionOfTheEmbeddings) {
  std::set<std::string> hashes;
  for (const char* ignore : {"[]", "['re:.*project_in']"}) {
    OneshotRun run;
    ASSERT_TRUE(run.start(options_for(run, "opt-postnorm", gptq_of("Linear", ignore))).ok());
    const auto written = Checkpoint::open(run.output().string());
    const Tensor codes = (*written)->load("model.decoder.layers.0.self_attn.q_proj.weight_packed").value();
    hashes.insert(sha256_hex(codes.bytes()));
  }
  EXPECT_EQ(hashes.size(), 2u);
}

// The table stays, the head gets codes of its own, and what loads back computes with them.
TEST(OutsideLinearsTest, ATiedHeadIsWrittenUntied) {
  OneshotRun run;
  const auto report = run.start(options_for(run, "opt-postnorm", gptq_of("lm_head")));
  ASSERT_TRUE(report.ok()) << report.error().message();
  Dense dense("opt-postnorm");
  const auto written = Checkpoint::open(run.output().string());
  ASSERT_TRUE(written.ok());
  EXPECT_EQ((*written)->config()["tie_word_embeddings"], false);
  EXPECT_NE((*written)->find("lm_head.weight_packed"), nullptr);
  EXPECT_EQ((*written)->load("model.decoder.embed_tokens.weight")->to_f32(),
            (*dense.checkpoint).load("model.decoder.embed_tokens.weight")->to_f32());
  auto plain = decompressed(Checkpoint::open(run.output().string()).value(), dense.pool);
  ASSERT_TRUE(plain.ok()) << plain.error().message();
  const std::vector<float> head = (*plain)->load("lm_head.weight")->to_f32();
  const auto model = Transformer::open(dense.context, **written);
  ASSERT_TRUE(model.ok()) << model.error().message();
  const Matrix& x = dense.outputs.last_hidden;
  const Matrix logits = (*model)->outputs(dense.context, dense.batch)->logits;
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    for (std::int64_t v = 0; v < logits.cols(); ++v) {
      double sum = 0;
      for (std::int64_t c = 0; c < x.cols(); ++c)
        sum += double{x.at(t, c)} * double{head[static_cast<std::size_t>(v * x.cols() + c)]};
      ASSERT_NEAR(logits.at(t, v), sum, 1e-4 * (1 + std::abs(sum))) << t << " " << v;
    }
  }
}

TEST(OutsideLinearsTest, ATiedHeadIsPrunedOnlyWhenItGetsAWeightOfItsOwn) {
  for (const bool tied : {true, false}) {
    OneshotRun run;
    Options options = options_for(run, "opt-postnorm",
                                  "s_stage: {s_modifiers: {SparseGPTModifier: {sparsity: 0.5, targets: "
                                  "[Linear], ignore: ['re:.*project']}}}");
    options.tie_word_embeddings = tied;
    const auto report = run.start(options);
    ASSERT_TRUE(report.ok()) << report.error().message();
    Dense dense("opt-postnorm");
    const auto written = Checkpoint::open(run.output().string());
    ASSERT_TRUE(written.ok());
    EXPECT_EQ((*written)->load("model.decoder.embed_tokens.weight")->to_f32(),
              (*dense.checkpoint).load("model.decoder.embed_tokens.weight")->to_f32());
    EXPECT_EQ((*written)->config()["tie_word_embeddings"], tied);
    ASSERT_EQ((*written)->find("lm_head.weight") == nullptr, tied);
    if (tied) continue;
    const std::vector<float> head = (*written)->load("lm_head.weight")->to_f32();
    EXPECT_NEAR(static_cast<double>(std::ranges::count(head, 0.0F)) / static_cast<double>(head.size()), 0.5,
                0.01);
  }
}

TEST(OutsideLinearsTest, StaticInputsOfTheHeadAreObserved) {
  OneshotRun run;
  const auto report = run.start(options_for(
      run, "base-mini", "s_stage: {s_modifiers: {QuantizationModifier: {scheme: FP8, targets: [lm_head]}}}"));
  ASSERT_TRUE(report.ok()) << report.error().message();
  Dense dense("base-mini");
  float largest = 0;
  for (const float value : dense.outputs.last_hidden.values()) largest = std::max(largest, std::abs(value));
  const auto written = Checkpoint::open(run.output().string());
  const std::vector<float> scale = (*written)->load("lm_head.input_scale")->to_f32();
  EXPECT_NEAR(scale[0], largest / 448, 0.2 * largest / 448);
}

TEST(OutsideLinearsTest, StaticOutputsOutsideTheBlocksAreRefused) {
  OneshotRun run;
  const auto report = run.start(options_for(
      run, "base-mini",
      "s_stage: {s_modifiers: {QuantizationModifier: {config_groups: {g: {targets: [lm_head], weights: "
      "{num_bits: 8, strategy: channel}, output_activations: {num_bits: 8, strategy: tensor}}}}}}"));
  ASSERT_FALSE(report.ok());
  EXPECT_THAT(report.error().message(), HasSubstr("static output_activations for lm_head"));
}

}  // namespace
}  // namespace nibble
