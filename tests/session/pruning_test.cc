// SPDX-License-Identifier: Apache-2.0
// What a run that prunes promises, for every pruning modifier: the structure that was asked for, the same
// bytes for any threads, memory and after a stop, zeros that later modifiers keep, and sparse formats that
// hold the same weights in exactly the planned bytes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "base/json.h"
#include "checkpoint/quantized_checkpoint.h"
#include "checkpoint/sharded_writer.h"
#include "checkpoint/verify.h"
#include "codec/mask_statistics.h"
#include "model/sparsity_check.h"
#include "model/sparsity_report.h"
#include "session/oneshot_fixture.h"
#include "support/golden_tensors.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::same_tensor;

struct Pruning {
  const char* name;
  const char* modifiers;  // below sparse_modifiers
  double sparsity;
  std::optional<MaskPattern> structure;
};
void PrintTo(const Pruning& pruning, std::ostream* out) {
  *out << pruning.name;
}

std::string recipe_of(const std::string& modifiers) {
  return "sparse_stage:\n  sparse_modifiers:\n" + modifiers;
}

Options pruning(const OneshotRun& run, const std::string& modifiers) {
  Options options;
  options.model = (kOneshotGoldens / "base-mini").string();
  options.recipe = {recipe_of(modifiers)};
  options.dataset = kCalibrationIds.string();
  options.num_calibration_samples = 8;
  options.output_dir = run.output().string();
  return options;
}

std::string run_hash(const std::string& modifiers, const std::function<void(Options&)>& change, int threads) {
  OneshotRun run;
  Options options = pruning(run, modifiers);
  change(options);
  const auto report = run.start(options, threads);
  EXPECT_TRUE(report.ok()) << report.error().message();
  return report.ok() ? weights_hash(run.output()) : "";
}

std::unique_ptr<Checkpoint> open_dense(const fs::path& folder, ThreadPool& pool) {
  auto checkpoint = Checkpoint::open(folder.string());
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.error().message();
  auto dense = decompressed(std::move(checkpoint).value(), pool);
  EXPECT_TRUE(dense.ok()) << dense.error().message();
  return std::move(dense).value();
}

std::vector<VerifyFinding> findings_of(const fs::path& folder, const SparsityExpectation& expected) {
  ThreadPool pool(2);
  NullSink events;
  StopToken stop;
  Context context{pool, events, stop};
  const auto findings = check_sparsity(*open_dense(folder, pool), expected, context);
  EXPECT_TRUE(findings.ok()) << findings.error().message();
  return findings.ok() ? *findings : std::vector<VerifyFinding>(1);
}

class PruningRun : public ::testing::TestWithParam<Pruning> {};

TEST_P(PruningRun, HasTheStructureThatWasAskedFor) {
  OneshotRun run;
  const auto report = run.start(pruning(run, GetParam().modifiers));
  ASSERT_TRUE(report.ok()) << report.error().message();
  const SparsityExpectation expected{
      .sparsity = GetParam().sparsity, .tolerance = 0.003, .structure = GetParam().structure, .targets = {}};
  for (const VerifyFinding& finding : findings_of(run.output(), expected))
    ADD_FAILURE() << finding.where << ": " << finding.what << " " << finding.found;
  ASSERT_FALSE(report->changed.empty());
  for (const ModuleRow& row : report->changed) {
    const LayerReport& last = row.changes.back();
    ASSERT_TRUE(last.zeros.has_value()) << row.name;
    EXPECT_GT(*last.zeros, 0) << row.name;
    EXPECT_FALSE(last.zeros_lost.has_value()) << row.name;  // nobody pruned it before
  }
}

TEST_P(PruningRun, ThreadsAndMemoryDoNotChangeAByte) {
  std::set<std::string> hashes;
  for (const int threads : {1, 2, 4})
    hashes.insert(run_hash(
        GetParam().modifiers, [](Options&) {}, threads));
  hashes.insert(run_hash(
      GetParam().modifiers, [](Options& o) { o.memory_budget = "100KB"; }, 2));
  EXPECT_EQ(hashes.size(), 1u);
}

TEST_P(PruningRun, AStoppedRunGoesOnToTheSameBytes) {
  const std::string undisturbed = run_hash(
      GetParam().modifiers, [](Options&) {}, 2);
  int resumed = 0;
  for (const int event : {8, 16, 24}) {
    OneshotRun run;
    ThreadPool pool(2);
    StopAt sink(run.stop, event);
    Context context{pool, sink, run.stop};
    Options options = pruning(run, GetParam().modifiers);
    const auto first = run_oneshot(options, context);
    if (!first.ok()) {
      EXPECT_EQ(first.error().code, ErrorCode::kResumable) << first.error().message();
      OneshotRun next;
      options.resume = true;
      const auto second = next.start(options, 1);
      ASSERT_TRUE(second.ok()) << second.error().message();
      for (const ModuleRow& row : second->changed)
        EXPECT_TRUE(row.changes.back().zeros.has_value()) << row.name;
      ++resumed;
    }
    EXPECT_EQ(weights_hash(run.output()), undisturbed) << "stopped at event " << event;
  }
  EXPECT_GE(resumed, 1);
}

const Pruning kPrunings[] = {
    {"SparseGptHalf", "    SparseGPTModifier: {sparsity: 0.5, targets: [Linear], ignore: [lm_head]}\n", 0.5,
     std::nullopt},
    {"SparseGpt24",
     "    SparseGPTModifier: {sparsity: 0.5, mask_structure: '2:4', targets: [Linear], ignore: [lm_head]}\n",
     0.5, MaskPattern{2, 4}},
    {"SparseGptOwl",
     "    SparseGPTModifier: {sparsity: 0.5, sparsity_profile: owl, owl_m: 5, owl_lmbda: 0.08, targets: "
     "[Linear], ignore: [lm_head]}\n",
     0.5, std::nullopt},
    {"Wanda24",
     "    WandaPruningModifier: {sparsity: 0.5, mask_structure: '2:4', targets: [Linear], ignore: "
     "[lm_head]}\n",
     0.5, MaskPattern{2, 4}},
    {"Wanda48",
     "    WandaPruningModifier: {sparsity: 0.5, mask_structure: '4:8', targets: [Linear], ignore: "
     "[lm_head]}\n",
     0.5, MaskPattern{4, 8}},
    {"Magnitude",
     "    MagnitudePruningModifier: {init_sparsity: 0.0, final_sparsity: 0.75, targets: ['re:.*proj']}\n",
     0.75, std::nullopt},
    {"Magnitude14",
     "    MagnitudePruningModifier: {init_sparsity: 0.0, final_sparsity: 0.25, mask_structure: '1:4', "
     "targets: ['re:.*proj']}\n",
     0.25, MaskPattern{1, 4}},
};

INSTANTIATE_TEST_SUITE_P(Modifiers, PruningRun, ::testing::ValuesIn(kPrunings),
                         [](const auto& parameter) { return std::string(parameter.param.name); });

// --- zeros under later modifiers ---

constexpr const char* kPrune24 =
    "    SparseGPTModifier: {sparsity: 0.5, mask_structure: '2:4', targets: [Linear], ignore: [lm_head]}\n";

std::string joint(const std::string& args) {
  return std::string(kPrune24) +
         "    GPTQModifier: {ignore: [lm_head], config_groups: {group_0: {targets: [Linear], weights: "
         "{num_bits: 4, type: int, strategy: group, group_size: 32, " +
         args + "}}}}\n";
}

// Quantizing after pruning in one stage: every zero of the mask decodes to zero, and the report counts them.
TEST(JointRun, ZerosStayZeroToTheLastBit) {
  for (const char* grid : {"symmetric: true", "symmetric: false"}) {
    OneshotRun run;
    const auto report = run.start(pruning(run, joint(grid)));
    ASSERT_TRUE(report.ok()) << report.error().message();
    EXPECT_TRUE(
        findings_of(run.output(), {.sparsity = {}, .structure = MaskPattern{2, 4}, .targets = {}}).empty())
        << grid;
    for (const ModuleRow& row : report->modules) {
      ASSERT_EQ(row.changes.size(), 2u) << row.name;
      EXPECT_EQ(row.changes[0].zeros, row.weights / 2) << row.name;
      EXPECT_GE(*row.changes[1].zeros, row.weights / 2) << row.name;  // rounding may add some
      EXPECT_EQ(row.changes[1].zeros_lost, 0) << row.name;
    }
    const Json json = to_json(*report);
    EXPECT_EQ(json["modules"][0]["zeros_lost"], 0);
  }
}

TEST(JointRun, AnotherPruningKeepsTheMaskBeforeIt) {
  OneshotRun run;
  const std::string modifiers =
      std::string(kPrune24) +
      "    WandaPruningModifier: {sparsity: 0.75, targets: [Linear], ignore: [lm_head]}\n";
  const auto report = run.start(pruning(run, modifiers));
  ASSERT_TRUE(report.ok()) << report.error().message();
  EXPECT_TRUE(
      findings_of(run.output(), {.sparsity = 0.75, .structure = MaskPattern{2, 4}, .targets = {}}).empty());
  for (const ModuleRow& row : report->changed) EXPECT_EQ(row.changes.back().zeros_lost, 0) << row.name;
}

// A pruned checkpoint, then a run of its own with ConstantPruningModifier before a quantizing one.
TEST(JointRun, ConstantPruningKeepsTheZerosOfTheSource) {
  OneshotRun first;
  ASSERT_TRUE(first.start(pruning(first, kPrune24)).ok());
  OneshotRun second;
  Options options = pruning(second, "    ConstantPruningModifier: {targets: ['re:.*proj']}\n" +
                                        joint("symmetric: true").substr(std::string(kPrune24).size()));
  options.model = first.output().string();
  const auto report = second.start(options);
  ASSERT_TRUE(report.ok()) << report.error().message();
  EXPECT_TRUE(
      findings_of(second.output(), {.sparsity = {}, .structure = MaskPattern{2, 4}, .targets = {}}).empty());
  for (const ModuleRow& row : report->modules) EXPECT_EQ(row.changes.back().zeros_lost, 0) << row.name;
}

// --- sparse formats ---

void expect_same_weights(const fs::path& left, const fs::path& right) {
  ThreadPool pool(2);
  const auto a = open_dense(left, pool), b = open_dense(right, pool);
  ASSERT_EQ(a->tensors().size(), b->tensors().size());
  for (const TensorInfo& info : a->tensors()) {
    const auto x = a->load(info.name), y = b->load(info.name);
    ASSERT_TRUE(x.ok() && y.ok()) << info.name;
    EXPECT_EQ(x->dtype(), y->dtype()) << info.name;
    EXPECT_EQ(x->to_f32(), y->to_f32()) << info.name;  // -0 and +0 are the same weight
  }
}

struct Stored {
  const char* name;
  std::string modifiers;
  const char* format;
};
void PrintTo(const Stored& stored, std::ostream* out) {
  *out << stored.name;
}

class SparseFormatRun : public ::testing::TestWithParam<Stored> {};

TEST_P(SparseFormatRun, HoldsTheSameWeightsInThePlannedBytes) {
  OneshotRun dense, sparse, again;
  ASSERT_TRUE(dense.start(pruning(dense, GetParam().modifiers)).ok());
  Options options = pruning(sparse, GetParam().modifiers);
  options.sparsity_format = GetParam().format;
  const auto job = sparse.prepare(options);
  ASSERT_TRUE(job.ok()) << job.error().message();
  const auto report = sparse.start(options);
  ASSERT_TRUE(report.ok()) << report.error().message();
  EXPECT_EQ((*job)->planned().output_bytes, fs::file_size(sparse.output() / "model.safetensors"));
  EXPECT_EQ(report->output_bytes, fs::file_size(sparse.output() / "model.safetensors"));
  EXPECT_LT(report->output_bytes, fs::file_size(dense.output() / "model.safetensors"));
  expect_same_weights(dense.output(), sparse.output());

  ThreadPool pool(2);
  Context context{pool, sparse.log, sparse.stop};
  const auto stored = Checkpoint::open(sparse.output().string());
  ASSERT_TRUE(stored.ok()) << stored.error().message();
  const auto verified = verify_checkpoint(context, **stored, {});
  ASSERT_TRUE(verified.ok());
  for (const VerifyFinding& finding : verified->findings)
    ADD_FAILURE() << finding.where << ": " << finding.what;

  // The source of another run; what was quantized before is not pruned again.
  Options next = pruning(again, "    ConstantPruningModifier: {targets: ['re:.*proj']}\n");
  next.model = sparse.output().string();
  next.sparsity_format = "sparse-bitmask";
  const auto repeated = again.start(next);
  ASSERT_TRUE(repeated.ok()) << repeated.error().message();
  EXPECT_EQ(repeated->output_bytes, fs::file_size(again.output() / "model.safetensors"));
  expect_same_weights(dense.output(), again.output());
}

TEST_P(SparseFormatRun, IsTheSameForThreadsAndAfterAStop) {
  const auto change = [](Options& o) { o.sparsity_format = GetParam().format; };
  const std::string one = run_hash(GetParam().modifiers, change, 1);
  EXPECT_EQ(one, run_hash(GetParam().modifiers, change, 3));
  OneshotRun run;
  ThreadPool pool(2);
  StopAt sink(run.stop, 20);
  Context context{pool, sink, run.stop};
  Options options = pruning(run, GetParam().modifiers);
  change(options);
  if (!run_oneshot(options, context).ok()) {
    OneshotRun next;
    options.resume = true;
    ASSERT_TRUE(next.start(options).ok());
  }
  EXPECT_EQ(weights_hash(run.output()), one);
}

const std::string kHalf = "    SparseGPTModifier: {sparsity: 0.5, targets: [Linear], ignore: [lm_head]}\n";

const Stored kStored[] = {
    {"BitmaskUnstructured", kHalf, "sparse-bitmask"},
    {"Bitmask24", kPrune24, "sparse-bitmask"},
    {"QuadsAsBitmask", kPrune24, "sparse-24-bitmask"},
    {"Own24", kPrune24, "nibble-24"},
    {"Own24WithInt4", joint("symmetric: true"), "nibble-24"},
    {"Own24WithInt8",
     std::string(kPrune24) +
         "    QuantizationModifier: {targets: [Linear], scheme: W8A16, ignore: [lm_head]}\n",
     "nibble-24"},
};

INSTANTIATE_TEST_SUITE_P(Formats, SparseFormatRun, ::testing::ValuesIn(kStored),
                         [](const auto& parameter) { return std::string(parameter.param.name); });

std::string refusal(
    const std::string& modifiers, const std::string& format,
    const std::function<void(Options&)>& change = [](Options&) {}) {
  OneshotRun run;
  Options options = pruning(run, modifiers);
  options.sparsity_format = format;
  change(options);
  const auto job = run.prepare(options);
  return job.ok() ? "accepted" : job.error().message() + " " + job.error().hint;
}

TEST(SparseFormatPlan, RefusesWhatTheFormatCannotHold) {
  EXPECT_THAT(refusal(kHalf, "nibble-24"), HasSubstr("mask_structure 2:4"));
  EXPECT_THAT(refusal(kHalf, "sparse-24-bitmask"), HasSubstr("model.layers.0.self_attn.q_proj"));
  EXPECT_THAT(refusal(kPrunings[2].modifiers, "sparse-bitmask"), HasSubstr("ConstantPruningModifier"));
  EXPECT_THAT(refusal(joint("symmetric: false"), "nibble-24"), HasSubstr("symmetric"));
  EXPECT_THAT(refusal(kPrune24, "bitmask"), HasSubstr("sparse-24-bitmask"));
  EXPECT_THAT(
      refusal("    GPTQModifier: {targets: [Linear], scheme: W4A16, ignore: [lm_head]}\n", "nibble-24"),
      HasSubstr("prunes"));
  EXPECT_THAT(refusal(kPrune24, "nibble-24", [](Options& o) { o.save_compressed = false; }),
              HasSubstr("save_compressed"));
  EXPECT_THAT(refusal("    ConstantPruningModifier: {targets: ['re:.*proj']}\n", "nibble-24"),
              HasSubstr("it is not 2:4: row"));
}

}  // namespace
}  // namespace nibble
