// SPDX-License-Identifier: Apache-2.0
// What a run promises: the same bytes whatever the threads, exact plans, nothing half done, errors before
// work.
#include "session/job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "checkpoint/sharded_writer.h"
#include "nibble/nibble.h"
#include "session/oneshot_fixture.h"
#include "session/yaml.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::HasSubstr;

const std::string kMini = (kOneshotGoldens / "base-mini").string();
const fs::path kRecipes = fs::path(NIBBLE_SOURCE_DIR) / "tests/golden/recipes";

Options w4(const OneshotRun& run) {
  Options options;
  options.model = kMini;
  options.scheme = "W4A16";
  options.group_size = 32;
  options.output_dir = run.output().string();
  return options;
}

std::string text_of(const fs::path& file) {
  const auto text = read_text_file(file);
  EXPECT_TRUE(text.ok()) << file;
  return text.ok() ? *text : "";
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename().string());
  return names;
}

std::string error_of(const Options& options) {
  OneshotRun run;
  const auto job = run.prepare(options);
  return job.ok() ? "accepted" : job.error().message();
}

std::string error_with(const std::string& recipe, bool reference = false) {
  Options options;
  options.model = kMini;
  options.recipe = {recipe};
  options.reference = reference;
  return error_of(options);
}

TEST(JobTest, TheNumberOfThreadsDoesNotChangeAByte) {
  std::set<std::string> hashes;
  for (const int threads : {1, 2, 4}) {
    OneshotRun run;
    ASSERT_TRUE(run.start(w4(run), threads).ok());
    hashes.insert(file_hash(run.output() / "model.safetensors"));
  }
  EXPECT_EQ(hashes.size(), 1u);
}

TEST(JobTest, ThePlanIsExactToTheByte) {
  for (const char* shard : {"5GB", "40KB"}) {
    OneshotRun run;
    Options options = w4(run);
    options.max_shard_size = shard;
    const auto job = run.prepare(options);
    ASSERT_TRUE(job.ok()) << job.error().message();
    const std::uint64_t planned = (*job)->planned().output_bytes;
    EXPECT_FALSE(fs::exists(run.output()));
    ASSERT_TRUE(run.start(options).ok());
    std::uint64_t written = 0;
    for (const auto& entry : fs::directory_iterator(run.output())) {
      if (entry.path().filename().string().starts_with("model")) written += entry.file_size();
    }
    EXPECT_EQ(written, planned);
  }
}

TEST(JobTest, ShardsHoldTheSameTensorsAsOneFile) {
  OneshotRun whole;
  OneshotRun cut;
  ASSERT_TRUE(whole.start(w4(whole)).ok());
  Options options = w4(cut);
  options.max_shard_size = "40KB";
  ASSERT_TRUE(cut.start(options).ok());
  EXPECT_TRUE(fs::exists(cut.output() / "model.safetensors.index.json"));
  const auto a = Checkpoint::open(whole.output().string());
  const auto b = Checkpoint::open(cut.output().string());
  ASSERT_TRUE(a.ok() && b.ok());
  ASSERT_EQ((*a)->tensors().size(), (*b)->tensors().size());
  for (const TensorInfo& info : (*a)->tensors()) {
    const auto left = (*a)->load(info.name);
    const auto right = (*b)->load(info.name);
    ASSERT_TRUE(left.ok() && right.ok());
    EXPECT_EQ(sha256_hex(left->bytes()), sha256_hex(right->bytes())) << info.name;
  }
}

TEST(JobTest, ADryRunWritesNothing) {
  OneshotRun run;
  Options options = w4(run);
  options.dry_run = true;
  const auto report = run.start(options);
  ASSERT_TRUE(report.ok());
  EXPECT_TRUE(names_in(run.folder()).empty());
  EXPECT_EQ(report->modules.size(), 14u);
  EXPECT_TRUE(report->modules[0].changes.empty());
}

TEST(JobTest, WithoutOutputOnlyTheReportIsMade) {
  OneshotRun run;
  Options options = w4(run);
  options.output_dir.clear();
  const auto report = run.start(options);
  ASSERT_TRUE(report.ok());
  EXPECT_GT(report->modules[0].changes.at(0).relative_error, 0.01);
  EXPECT_THAT(run.log.texts(Event::Kind::kWarning), Contains(HasSubstr("nothing is saved")));
}

TEST(JobTest, AStoppedRunLeavesNoOutput) {
  OneshotRun run;
  run.stop.request_stop();
  const auto report = run.start(w4(run));
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code, ErrorCode::kInterrupted);
  EXPECT_FALSE(fs::exists(run.output()));
  StopToken fresh;
  OneshotRun again;
  Options options = w4(again);
  options.output_dir = run.output().string();
  EXPECT_TRUE(again.start(options).ok()) << "the left-over partial folder is no obstacle";
}

TEST(JobTest, AnEarlierOutputIsReplacedOnlyOnRequest) {
  OneshotRun run;
  ASSERT_TRUE(run.start(w4(run)).ok());
  const std::string first = file_hash(run.output() / "model.safetensors");
  Options options = w4(run);
  options.scheme = "W8A16";
  const auto refused = run.start(options);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kCannotCreate);
  EXPECT_EQ(file_hash(run.output() / "model.safetensors"), first);
  options.overwrite = true;
  ASSERT_TRUE(run.start(options).ok());
  EXPECT_NE(file_hash(run.output() / "model.safetensors"), first);
}

TEST(JobTest, SmallFilesTravelByteForByte) {
  OneshotRun run;
  const auto report = run.start(w4(run));
  ASSERT_TRUE(report.ok());
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"}) {
    EXPECT_EQ(file_hash(run.output() / name), file_hash(fs::path(kMini) / name)) << name;
    EXPECT_THAT(report->copied_files, Contains(name));
  }
  EXPECT_EQ(names_in(run.folder()).size(), 1u) << "only the output itself is left";
}

TEST(JobTest, TheReportHasARowForEachModuleAndItsTotalsAddUp) {
  OneshotRun run;
  ASSERT_TRUE(run.start(w4(run)).ok());
  const auto json = read_json_file(run.output() / "report.json");
  ASSERT_TRUE(json.ok());
  std::uint64_t bytes = 0;
  for (const Json& row : (*json)["modules"]) {
    bytes += row["bytes"].get<std::uint64_t>();
    const double error = row["relative_error"].get<double>();
    EXPECT_NEAR(row["sqnr_db"].get<double>(), -20 * std::log10(error), 1e-6);
    EXPECT_EQ(row["bits"].get<int>(), 4);
    EXPECT_EQ(row["scheme"].get<std::string>(), "W4A16 group 32");
  }
  EXPECT_EQ((*json)["modules"].size(), 14u);
  EXPECT_EQ((*json)["totals"]["bytes"].get<std::uint64_t>(), bytes);
  EXPECT_EQ((*json)["unquantized"], Json::array({"lm_head"}));
}

TEST(JobTest, TheModelCardNamesTheBaseAndCarriesItsLicence) {
  OneshotRun source;
  const fs::path model = source.folder() / "some-model";
  fs::copy(kMini, model);
  ASSERT_TRUE(
      write_file_durably(model / "README.md", "---\nlicense: apache-2.0\nlanguage: [en]\n---\n# Base\n")
          .ok());
  ASSERT_TRUE(write_file_durably(model / "recipe.yaml", "default_stage: {}\nquant_stage: {x: 1}\n").ok());
  Options options = w4(source);
  options.model = model.string();
  ASSERT_TRUE(source.start(options).ok());
  const std::string card = text_of(source.output() / "README.md");
  EXPECT_THAT(card,
              HasSubstr("base_model: some-model\nbase_model_relation: quantized\nlicense: apache-2.0\n"));
  EXPECT_THAT(text_of(source.output() / "README.base.md"), HasSubstr("# Base"));
  EXPECT_EQ(source.log.texts(Event::Kind::kWarning).size(), 0u);
  // The source's own recipe comes first; stages of the same name are numbered.
  const auto recipe = read_yaml(text_of(source.output() / "recipe.yaml"));
  ASSERT_TRUE(recipe.ok());
  std::vector<std::string> stages;
  for (const auto& [key, value] : *recipe->if_map()) stages.push_back(key);
  EXPECT_THAT(stages, ::testing::ElementsAre("default_stage", "quant_stage_0", "quant_stage_1"));
}

TEST(JobTest, AWrittenRecipeRepeatsTheRun) {
  OneshotRun first;
  OneshotRun second;
  ASSERT_TRUE(first.start(w4(first)).ok());
  Options options;
  options.model = kMini;
  options.recipe = {(first.output() / "recipe.yaml").string()};
  options.output_dir = second.output().string();
  ASSERT_TRUE(second.start(options).ok());
  for (const char* name : {"model.safetensors", "config.json", "recipe.yaml"}) {
    EXPECT_EQ(file_hash(first.output() / name), file_hash(second.output() / name)) << name;
  }
}

TEST(JobTest, PrecisionChangesWhatStaysAndTheScales) {
  OneshotRun run;
  Options options = w4(run);
  options.precision = "fp16";
  ASSERT_TRUE(run.start(options).ok());
  const auto checkpoint = Checkpoint::open(run.output().string());
  ASSERT_TRUE(checkpoint.ok());
  EXPECT_EQ((*checkpoint)->find("model.norm.weight")->dtype, DType::kF16);
  EXPECT_EQ((*checkpoint)->find("model.layers.0.mlp.up_proj.weight_scale")->dtype, DType::kF16);
  EXPECT_EQ((*checkpoint)->config()["dtype"], "float16");
  options.precision = "int8";
  EXPECT_THAT(error_of(options), HasSubstr("allowed are auto, fp16, bf16 or fp32"));
}

TEST(JobTest, AQuantizedHeadIsUntied) {
  OneshotRun run;
  const fs::path model = run.folder() / "tied";
  fs::copy(kMini, model);
  // The same model with a tied head: the embedding stands in for it.
  auto config = read_json_file(model / "config.json");
  (*config)["tie_word_embeddings"] = true;
  ASSERT_TRUE(write_file_durably(model / "config.json", config->dump()).ok());
  const auto source = Checkpoint::open(kMini);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const TensorInfo& info : (*source)->tensors()) {
    if (info.name != "lm_head.weight") tensors.emplace_back(info.name, *(*source)->load(info.name));
  }
  ASSERT_TRUE(write_safetensors_file(model / "model.safetensors", tensors).ok());

  Options options;
  options.model = model.string();
  options.recipe = {"quant_stage: {quant_modifiers: {QuantizationModifier: {scheme: W8A8}}}"};
  options.output_dir = run.output().string();
  const auto report = run.start(options);
  ASSERT_TRUE(report.ok()) << report.error().message();
  const auto written = Checkpoint::open(run.output().string());
  ASSERT_TRUE(written.ok());
  EXPECT_EQ((*written)->find("lm_head.weight")->dtype, DType::kI8);
  EXPECT_EQ((*written)->find("model.embed_tokens.weight")->dtype, DType::kBF16);
  EXPECT_EQ((*written)->config()["tie_word_embeddings"], false);

  // Left alone, it stays tied and takes no bytes.
  options.recipe.clear();
  options.scheme = "W8A8";
  options.overwrite = true;
  ASSERT_TRUE(run.start(options).ok());
  const auto tied = Checkpoint::open(run.output().string());
  EXPECT_EQ((*tied)->find("lm_head.weight"), nullptr);
  EXPECT_EQ((*tied)->config()["tie_word_embeddings"], true);

  options.tie_word_embeddings = false;
  ASSERT_TRUE(run.start(options).ok());
  const auto untied = Checkpoint::open(run.output().string());
  EXPECT_EQ((*untied)->find("lm_head.weight")->dtype, DType::kBF16);
}

TEST(JobTest, AStageWithoutModifiersLeavesTheModelAsItIs) {
  OneshotRun run;
  Options options;
  options.model = kMini;
  options.recipe = {"quant_stage: {}"};
  options.output_dir = run.output().string();
  const auto report = run.start(options);
  ASSERT_TRUE(report.ok()) << report.error().message();
  EXPECT_THAT(report->warnings, Contains(HasSubstr("holds no modifier")));
  const auto source = Checkpoint::open(kMini), written = Checkpoint::open(run.output().string());
  ASSERT_TRUE(written.ok()) << written.error().message();
  EXPECT_EQ((*written)->tensors().size(), (*source)->tensors().size());
  for (const TensorInfo& info : (*source)->tensors())
    EXPECT_EQ((*written)->load(info.name)->to_f32(), (*source)->load(info.name)->to_f32()) << info.name;
  EXPECT_FALSE((*written)->config().contains("quantization_config"));
  options.recipe = {"quant: {}"};  // no stage at all
  EXPECT_THAT(error_of(options), HasSubstr("holds no modifier"));
}

TEST(JobTest, AGgufBecomesAHuggingFaceFolder) {
  OneshotRun run;
  Options options;
  options.model =
      (fs::path(NIBBLE_SOURCE_DIR) / "tests/golden/checkpoint/gguf/stories260K-q4_0.gguf").string();
  options.scheme = "W4A16";
  options.group_size = 32;
  options.output_dir = run.output().string();
  const auto report = run.start(options);
  ASSERT_TRUE(report.ok()) << report.error().message();
  EXPECT_THAT(
      names_in(run.output()),
      ::testing::IsSupersetOf({"config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                               "tokenizer_config.json", "recipe.yaml", "report.json", "README.md"}));
  EXPECT_EQ(report->precision, "float16");
  EXPECT_THAT(report->warnings, Contains(HasSubstr("stored as float16")));
  const auto written = Checkpoint::open(run.output().string());
  ASSERT_TRUE(written.ok()) << written.error().message();
  EXPECT_EQ((*written)->find("model.layers.0.self_attn.q_proj.weight_scale")->dtype, DType::kF16);
  EXPECT_TRUE(describe_model(**written).ok());
}

TEST(JobTest, GroupsThatAreNotFullAreRefusedByTheReferenceAndShortenedByUs) {
  const std::string recipe = text_of(kRecipes / "invalid/apply_group_does_not_divide.yaml");
  EXPECT_THAT(error_with(recipe, true),
              HasSubstr("model.layers.0.self_attn.q_proj (64 columns, group_size 48)"));
  OneshotRun run;
  Options options;
  options.model = kMini;
  options.recipe = {recipe};
  options.output_dir = run.output().string();
  const auto report = run.start(options);
  ASSERT_TRUE(report.ok()) << report.error().message();
  EXPECT_THAT(report->warnings, Contains(HasSubstr("last group is shorter")));
  const auto written = Checkpoint::open(run.output().string());
  EXPECT_EQ((*written)->find("model.layers.0.self_attn.q_proj.weight_scale")->shape, (Shape{64, 2}));
}

TEST(JobTest, RecipesThatCannotRunAreRefusedBeforeAnyWeightIsRead) {
  const auto refused = [](const char* name) {
    return error_with((kRecipes / "invalid" / name).string(), true);
  };
  EXPECT_THAT(refused("apply_no_config.yaml"), HasSubstr("says nothing to quantize"));
  EXPECT_THAT(refused("apply_nodata_gptq.yaml"), HasSubstr("GPTQModifier needs calibration data"));
  EXPECT_THAT(refused("apply_nodata_fp8_static.yaml"), HasSubstr("input_activations of group_0 are static"));
  EXPECT_THAT(refused("apply_nodata_smoothquant.yaml"),
              HasSubstr("SmoothQuantModifier needs calibration data"));
  for (const char* name : {"apply_awq_tensor_duo.yaml", "apply_gptq_no_match.yaml", "apply_reap_no_moe.yaml",
                           "apply_sparsity_list_length.yaml"}) {
    EXPECT_NE(refused(name), "accepted") << name;
  }
}

TEST(JobTest, PatternsThatMatchNothingAreAnsweredWithTheNearestName) {
  const auto with = [](const std::string& fields) {
    return "quant_stage: {quant_modifiers: {QuantizationModifier: {scheme: W8A8, " + fields + "}}}";
  };
  EXPECT_THAT(error_with(with("targets: [Linaer]")), HasSubstr("did you mean Linear"));
  EXPECT_THAT(error_with(with("targets: ['re:.*nothing']")), HasSubstr("matches no module"));
  EXPECT_THAT(error_with(with("ignore: [lm_haed]")), HasSubstr("did you mean lm_head"));
  EXPECT_EQ(error_with(with("ignore: ['re:.*vision_tower.*']")), "accepted")
      << "a general list may name what is absent";
  EXPECT_THAT(error_with(with("ignore: ['re:(']")), HasSubstr("ignore"));
  EXPECT_THAT(error_with(with("ignore: ['re:(.|..|...)+[!?]$', lm_head]")),
              HasSubstr("backtracks without end"));
  EXPECT_THAT(error_with(with("ignore: ['re:.*']")), HasSubstr("quantizes no module"));
}

TEST(JobTest, APatternToIgnoreThatMatchesNothingIsInTheReportWithTheNearestName) {
  for (const char* modifier : {"QuantizationModifier: {scheme: FP8_DYNAMIC, ignore: ['re:.*lm_haed']}",
                               "MagnitudePruningModifier: {init_sparsity: 0.5, final_sparsity: 0.5, targets: "
                               "['re:.*lm_haed', 're:.*_proj.weight']}"}) {
    OneshotRun run;
    Options options;
    options.model = kMini;
    options.reference = true;  // where a target without a match is a warning too
    options.recipe = {std::string("s_stage:\n  s_modifiers:\n    ") + modifier + "\n"};
    const auto job = run.prepare(options);
    ASSERT_TRUE(job.ok()) << job.error().message();
    EXPECT_THAT((*job)->planned().warnings,
                Contains(::testing::AllOf(HasSubstr("\"re:.*lm_haed\" matches no module"),
                                          HasSubstr("did you mean lm_head?"))));
  }
}

TEST(JobTest, WrongRequestsAreRefusedWithTheReason) {
  Options options;
  EXPECT_THAT(error_of(options), HasSubstr("no model"));
  options.model = kMini;
  EXPECT_THAT(error_of(options), HasSubstr("neither a recipe nor a scheme"));
  options.scheme = "W4A16";
  options.recipe = {"x"};
  EXPECT_THAT(error_of(options), HasSubstr("both a recipe and a scheme"));
  options.recipe.clear();
  options.pipeline = "sequentail";
  EXPECT_THAT(error_of(options), HasSubstr("did you mean sequential?"));
  options.pipeline = "independent";
  options.max_shard_size = "big";
  EXPECT_THAT(error_of(options), HasSubstr("big"));
  options.max_shard_size = "5GB";
  options.model = (kOneshotGoldens / "w4_g32").string();
  EXPECT_NE(error_of(options), "accepted");
  Options stage;
  stage.model = kMini;
  stage.recipe = {(kRecipes / "valid/multi_stage.yaml").string()};
  stage.stage = "nothing";
  EXPECT_THAT(error_of(stage), HasSubstr("sparsity_stage or quantization_stage"));
}

TEST(JobTest, ACompressedSourceIsTakenAsTheDenseModelItStandsFor) {
  OneshotRun first;
  ASSERT_TRUE(first.start(w4(first)).ok());
  OneshotRun second;
  Options options;
  options.model = first.output().string();
  options.recipe = {(kOneshotGoldens / "w4_channel/recipe.yaml").string()};
  options.output_dir = second.output().string();
  const auto report = second.start(options);
  ASSERT_TRUE(report.ok()) << report.error().message();
  EXPECT_THAT(second.log.texts(Event::Kind::kWarning), Contains(HasSubstr("compressed already")));
  const auto written = Checkpoint::open(second.output().string());
  ASSERT_TRUE(written.ok());
  EXPECT_EQ((*written)->find("model.layers.0.mlp.up_proj.weight_scale")->shape, (Shape{128, 1}));
}

TEST(JobTest, FormatsOfOtherToolsAreRefused) {
  OneshotRun run;
  const fs::path model = run.folder() / "gptq";
  fs::copy(kMini, model);
  auto config = read_json_file(model / "config.json");
  (*config)["quantization_config"] = {{"quant_method", "gptq"}, {"bits", 4}};
  ASSERT_TRUE(write_file_durably(model / "config.json", config->dump()).ok());
  Options options;
  options.model = model.string();
  options.scheme = "W8A8";
  EXPECT_THAT(error_of(options), HasSubstr("gptq"));
}

TEST(JobTest, ProgressEndsAtItsTotalAndModulesAreTold) {
  OneshotRun run;
  ASSERT_TRUE(run.start(w4(run)).ok());
  double done = 0;
  double total = -1;
  int modules = 0;
  for (const Event& event : run.log.events) {
    if (event.kind == Event::Kind::kModule) ++modules;
    if (event.kind != Event::Kind::kProgress) continue;
    EXPECT_GE(event.done, done);
    done = event.done;
    total = event.total;
  }
  EXPECT_EQ(modules, 14);
  EXPECT_DOUBLE_EQ(done, total);
}

TEST(JobTest, TheLifeCycleRunsInOrder) {
  OneshotRun run;
  ASSERT_TRUE(run.start(w4(run)).ok());
  EXPECT_THAT(
      run.log.texts(Event::Kind::kDebug),
      ::testing::ElementsAre("initialize QuantizationModifier", "calibration_start QuantizationModifier",
                             "calibration_end QuantizationModifier", "finalize QuantizationModifier"));
}

TEST(ApiTest, OneshotAndPlanGiveOutcomes) {
  OneshotRun run;
  const Options options = w4(run);
  const Outcome planned = plan(options);
  ASSERT_TRUE(planned.ok()) << planned.error;
  EXPECT_FALSE(fs::exists(run.output()));
  const Outcome done = oneshot(options);
  ASSERT_TRUE(done.ok()) << done.error;
  EXPECT_EQ(done.output_bytes, planned.output_bytes);
  EXPECT_EQ(done.bits_per_weight, planned.bits_per_weight);
  EXPECT_TRUE(parse_json(planned.report_json)->contains("estimate"));
  EXPECT_EQ(done.warnings.size(), 1u);
  const Outcome again = oneshot(options);
  EXPECT_EQ(again.code, static_cast<int>(ErrorCode::kCannotCreate));
  EXPECT_THAT(again.error, HasSubstr("exists already"));
  EXPECT_FALSE(again.hint.empty());
}

TEST(ApiTest, AListenerCanStopARun) {
  class Stopper final : public Listener {
    bool should_stop() override { return true; }
  };
  OneshotRun run;
  Stopper stopper;
  const Outcome outcome = oneshot(w4(run), &stopper);
  EXPECT_EQ(outcome.code, static_cast<int>(ErrorCode::kInterrupted));
  EXPECT_FALSE(fs::exists(run.output()));
}

}  // namespace
}  // namespace nibble
