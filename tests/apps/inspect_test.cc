// SPDX-License-Identifier: Apache-2.0
// nibble inspect, through the program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/run_program.h"
#include "base/json.h"
#include "checkpoint/sharded_writer.h"
#include "checkpoint/write_plan.h"
#include "model_tree.h"

namespace nibble::app_test {
namespace {

using testing::HasSubstr;

std::string model(const std::string& name) {
  return source_path("tests/golden/models/" + name);
}

TEST(NominalSize, FollowsTheFormulaOfTheAssignment) {
  constexpr std::int64_t kOpt125m = 125'239'296;
  const std::pair<double, double> expected[] = {
      {32, 480.08}, {16, 241.21}, {8, 121.77}, {4, 62.05}, {3, 47.12}};
  for (const auto& [width, mib] : expected) EXPECT_NEAR(app::nominal_mib(kOpt125m, width, 128), mib, 0.005);
  EXPECT_NEAR(app::nominal_mib(kOpt125m, 8, -1), 119.44, 0.005);
}

TEST(InspectVerb, NominalSizeCountsTiedHeadsOnce) {
  // 512 x 64 embeddings (tied head), five layers, final norm.
  constexpr std::int64_t kParameters =
      512 * 64 + 5 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 172 + 2 * 64) + 64;
  const std::string stories = source_path("data/models/stories260K");
  EXPECT_EQ(json_of({"inspect", stories, "--size-model", "nominal", "--json"})["parameters"], kParameters);
  EXPECT_THAT(run_nibble({"inspect", stories, "--size-model", "nominal"}).out,
              HasSubstr("model size: 0.50 MiB\n"));
}

TEST(InspectVerb, ListsTensorsOfEveryGoldenModel) {
  for (const auto& entry : std::filesystem::directory_iterator(source_path("tests/golden/models"))) {
    if (entry.path().filename() == "stories260K") continue;  // only its outputs: the model is in data/
    const Json document = json_of({"inspect", entry.path(), "--json"});
    EXPECT_GT(document["tensors"].size(), 10u) << entry.path();
    const Json tree = json_of({"inspect", entry.path(), "--tree", "--json"});
    EXPECT_FALSE(tree["children"].empty()) << entry.path();
  }
}

TEST(InspectVerb, TheTreeFoldsEqualLayers) {
  const std::string tree = run_nibble({"inspect", model("llama"), "--tree"}).out;
  EXPECT_THAT(tree, HasSubstr("LlamaForCausalLM("));
  EXPECT_THAT(tree, HasSubstr("(0-2): 3 x LlamaDecoderLayer("));
  EXPECT_THAT(tree, HasSubstr("(down_proj): Linear(in_features=172, out_features=64, bias=false)"));
  // The dense layer among mixtures of experts stays apart.
  const std::string mixture = run_nibble({"inspect", model("qwen3_moe"), "--tree"}).out;
  EXPECT_THAT(mixture, HasSubstr("(1): Qwen3MoeDecoderLayer("));
  EXPECT_THAT(mixture, HasSubstr("(0-5): 6 x Qwen3MoeMLP("));
}

TEST(InspectVerb, FindMarksTheFirstMatch) {
  const Json found = json_of({"inspect", model("llama"), "--find", "re:.*q_proj", "--json"})["modules"];
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0]["name"], "model.layers.0.self_attn.q_proj");
  EXPECT_EQ(found[0]["first"], true);
  EXPECT_EQ(found[2]["first"], false);
  EXPECT_EQ(json_of({"inspect", model("llama"), "--find", "q_proj", "--json"})["modules"].size(),
            0u);  // re.match
  EXPECT_EQ(run_nibble({"inspect", model("llama"), "--find", "(["}).code, 2);
}

TEST(InspectVerb, TensorShowsItsCorner) {
  const Json shown = json_of({"inspect", model("llama"), "--tensor", "model.embed_tokens.weight", "--rows",
                              "2", "--cols", "3", "--json"});
  ASSERT_EQ(shown["values"].size(), 2u);
  EXPECT_EQ(shown["values"][0].size(), 3u);
  EXPECT_EQ(shown["shape"], Json({512, 64}));
  const Outcome typo = run_nibble({"inspect", model("llama"), "--tensor", "model.embed_token.weight"});
  EXPECT_EQ(typo.code, 2);
  EXPECT_THAT(typo.err, HasSubstr("model.embed_tokens.weight"));
}

// A lone file of two matrices: 2:4 but for one group, and dense.
std::string write_sparse_file(const Scratch& scratch) {
  Tensor sparse(DType::kF32, {16, 32});
  Tensor dense(DType::kF32, {4, 8});
  for (std::size_t i = 0; i < 512; ++i) sparse.as_mutable<float>()[i] = i % 4 < 2 || i == 256 ? 1.0F : 0.0F;
  sparse.as_mutable<float>()[258] = 5.0F;  // row 8, columns 0 to 3 keep three
  for (float& value : dense.as_mutable<float>()) value = -1;
  const std::string path = scratch / "lone.safetensors";
  const auto plan = WritePlan::make_single_file(
      {{"layers.0.up.weight", DType::kF32, {16, 32}}, {"layers.1.up.weight", DType::kF32, {4, 8}}},
      "lone.safetensors", {});
  EXPECT_TRUE(plan.ok());
  auto writer = ShardedWriter::create(*plan, std::filesystem::path(path).parent_path());
  EXPECT_TRUE((*writer)->write("layers.0.up.weight", sparse).ok());
  EXPECT_TRUE((*writer)->write("layers.1.up.weight", dense).ok());
  EXPECT_TRUE((*writer)->finish().ok());
  return path;
}

TEST(InspectVerb, SparsityFindsTheGroupThatBreaksThePattern) {
  const Scratch scratch;
  const std::string path = write_sparse_file(scratch);
  const Json report = json_of({"inspect", path, "--sparsity", "--json"});
  const Json& layer = report["layers.0.up"];
  EXPECT_EQ(layer["num_params"], 512);
  EXPECT_EQ(layer["num_zeros"], 255);
  EXPECT_EQ(layer["structure"], "unstructured");
  EXPECT_EQ(layer["is_2_4"], false);
  EXPECT_EQ(layer["zeros_of_four"], Json({0, 1, 127, 0, 0}));
  EXPECT_EQ(layer["quads"]["1100"], 127);
  EXPECT_EQ(layer["patterns"]["2:4"]["met"], 127);
  EXPECT_EQ(layer["patterns"]["2:4"]["broken_at"], Json({{"row", 8}, {"column", 0}, {"zeros", 1}}));
  EXPECT_EQ(layer["patterns"]["1:4"]["met"], 128);
  EXPECT_EQ(report["layers.1.up"]["structure"], "dense");
  EXPECT_EQ(report["_total"]["num_zeros"], 255);
  EXPECT_EQ(report["_blocks"][1]["num_params"], 32);
  EXPECT_THAT(run_nibble({"inspect", path, "--sparsity"}).out,
              HasSubstr("127 of 128 groups are 2:4; the first that is not: row 8, columns 0 to 3 (1 zeros)"));
  EXPECT_THAT(run_nibble({"inspect", path, "--sparsity", "--tensors"}).out, HasSubstr("layers.1.up"));
}

TEST(VerifyVerb, HoldsAModelToItsSparsity) {
  const Scratch scratch;
  const std::string path = write_sparse_file(scratch);
  const auto code = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"verify", path});
    return run_nibble(flags).code;
  };
  EXPECT_EQ(code({"--targets", "layers.0.up", "--sparsity", "0.5"}), 0);
  EXPECT_EQ(code({"--targets", "layers.0.up", "--sparsity", "0.5", "--tolerance", "0.001"}), 65);
  EXPECT_EQ(code({"--targets", "layers.0.up", "--mask-structure", "1:4"}), 0);
  const Outcome broken = run_nibble({"verify", path, "--targets", "re:.*0.up", "--mask-structure", "2:4"});
  EXPECT_EQ(broken.code, 65);
  EXPECT_THAT(broken.out, HasSubstr("layer layers.0.up, row 8, column 0: it is not 2:4"));
  EXPECT_EQ(code({"--sparsity", "0.48"}), 65);  // both layers together: 255 of 544
  const Outcome typo = run_nibble({"verify", path, "--targets", "layers.0.upp", "--sparsity", "0.5"});
  EXPECT_EQ(typo.code, 2);
  EXPECT_THAT(typo.err, HasSubstr("layers.0.up"));
  EXPECT_EQ(code({"--mask-structure", "5:4"}), 2);
  EXPECT_EQ(code({"--targets", "layers.0.up"}), 2);
}

struct BadModel {
  const char* name;
  std::string path;
  int code;
  std::string message;
};
void PrintTo(const BadModel& entry, std::ostream* out) {
  *out << entry.name;
}

class InspectRefuses : public testing::TestWithParam<BadModel> {};

TEST_P(InspectRefuses, WithItsExitCode) {
  const Outcome outcome = run_nibble({"inspect", GetParam().path});
  EXPECT_EQ(outcome.code, GetParam().code) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr(GetParam().message));
  EXPECT_EQ(outcome.out, "");
}

INSTANTIATE_TEST_SUITE_P(Table, InspectRefuses,
                         testing::Values(BadModel{"MissingFolder", "/no/such/model", 66, "/no/such/model"},
                                         BadModel{"NotInTheCache", "org/name", 66, "hf download org/name"},
                                         BadModel{"FolderWithoutAModel", source_path("docs"), 66, "docs"},
                                         BadModel{"DamagedGguf",
                                                  source_path("tests/golden/malformed/gguf/bad-magic.gguf"),
                                                  65, "bad-magic.gguf"}),
                         [](const auto& entry) { return entry.param.name; });

}  // namespace
}  // namespace nibble::app_test
