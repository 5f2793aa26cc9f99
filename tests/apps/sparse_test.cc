// SPDX-License-Identifier: Apache-2.0
// Models in sparse formats, through the program: every verb takes them as it takes the dense ones.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/run_program.h"
#include "base/json.h"

namespace nibble::app_test {
namespace {

using testing::HasSubstr;

const char* const kMagnitude24 =
    "prune_stage:\n  prune_modifiers:\n    MagnitudePruningModifier:\n      init_sparsity: 0.0\n"
    "      final_sparsity: 0.5\n      mask_structure: '2:4'\n      targets: ['re:.*(q|k|v|o)_proj']\n";

double perplexity(const std::string& model) {
  return json_of(
      {"eval", model, "--text", kTexts, "--context", "64", "--max-windows", "2", "--json"})["perplexity"];
}

TEST(SparseFormats, EveryVerbReadsThem) {
  const Scratch scratch;
  const std::string recipe = scratch / "recipe.yaml";
  write_file(recipe, kMagnitude24);
  const std::string dense = scratch / "dense";
  ASSERT_EQ(run_nibble({"oneshot", kStories, "-r", recipe, "-o", dense, "-q"}).code, 0);
  const std::string prompt = run_nibble({"generate", dense, "--prompt", "Once", "-n", "8"}).out;
  for (const char* format : {"sparse-bitmask", "sparse-24-bitmask", "nibble-24"}) {
    SCOPED_TRACE(format);
    const std::string out = scratch / format;
    const std::vector<std::string> run{"oneshot",           kStories, "-r", recipe,
                                       "--sparsity-format", format,   "-o", out};
    std::vector<std::string> plan = run;
    plan.insert(plan.end(), {"--dry-run", "--json"});
    const Json planned = json_of(plan);
    ASSERT_EQ(run_nibble(run).code, 0);
    EXPECT_EQ(planned["totals"]["output_bytes"], std::filesystem::file_size(out + "/model.safetensors"));
    EXPECT_EQ(json_of({"diff", dense, out, "--json"})["differing_tensors"].size(), 0u);
    EXPECT_EQ(perplexity(out), perplexity(dense));
    EXPECT_EQ(run_nibble({"generate", out, "--prompt", "Once", "-n", "8"}).out, prompt);
    EXPECT_EQ(run_nibble({"verify", out, "--targets", "re:.*(q|k|v|o)_proj", "--mask-structure", "2:4"}).code,
              0);
    const Json zeros = json_of({"inspect", out, "--sparsity", "--json"});
    EXPECT_EQ(zeros["model.layers.0.self_attn.q_proj"]["is_2_4"], true);
    EXPECT_EQ(zeros["model.layers.0.self_attn.q_proj"]["quantized"], false);
    EXPECT_THAT(run_nibble({"inspect", out}).out, HasSubstr(format));
  }
}

TEST(SparseFormats, ADamagedOneIsRefused) {
  const Scratch scratch;
  const std::string recipe = scratch / "recipe.yaml";
  write_file(recipe, kMagnitude24);
  const std::string out = scratch / "out";
  ASSERT_EQ(run_nibble({"oneshot", kStories, "-r", recipe, "--sparsity-format", "nibble-24", "-o", out}).code,
            0);
  const std::filesystem::path file = out + "/model.safetensors";
  std::string bytes = read_file(file);
  std::size_t header = 0;  // its length stands in the first eight bytes
  for (int i = 7; i >= 0; --i)
    header = header * 256 + static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]);
  const Json tensors = *parse_json(bytes.substr(8, header));
  const std::size_t begin = tensors["model.layers.2.self_attn.q_proj.positions"]["data_offsets"][0];
  bytes[8 + header + begin] = 0;  // 0 and 0
  write_file(file, bytes);
  const Outcome verified = run_nibble({"verify", out});
  EXPECT_EQ(verified.code, 65);
  EXPECT_THAT(verified.out,
              HasSubstr("module model.layers.2.self_attn.q_proj: positions of row 0, columns 0 to 3"));
  EXPECT_EQ(run_nibble({"eval", out, "--text", kTexts}).code, 65);
}

}  // namespace
}  // namespace nibble::app_test
