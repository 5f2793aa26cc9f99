// SPDX-License-Identifier: Apache-2.0
#include "model/modules.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "model/model_test_util.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

// Lines of modules.txt: the reference's named_modules(), with stacked experts left out.
std::vector<std::pair<std::string, std::string>> reference_tree(const fs::path& folder) {
  std::ifstream in(folder / "modules.txt");
  std::vector<std::pair<std::string, std::string>> tree;
  for (std::string line; std::getline(in, line);) {
    const auto tab = line.find('\t');
    tree.emplace_back(line.substr(0, tab), line.substr(tab + 1));
  }
  return tree;
}

TEST(DescribeModelTest, TreesEqualTheReferencesNamedModules) {
  int seen = 0;
  for (const fs::path& folder : golden_models()) {
    SCOPED_TRACE(folder.filename().string());
    const auto checkpoint = open_checkpoint(folder);
    const Result<ModelDescription> description = describe_model(*checkpoint);
    ASSERT_TRUE(description.ok()) << description.error().message();
    std::vector<std::pair<std::string, std::string>> ours;
    for (const ModuleInfo& module : description->modules) {
      if (module.name.find(".experts") == std::string::npos)
        ours.emplace_back(module.name, module.class_name);
    }
    EXPECT_EQ(ours, reference_tree(folder));
    ++seen;
  }
  EXPECT_GE(seen, 42);
}

TEST(DescribeModelTest, EveryTensorIsUsedOrListedAsUnused) {
  for (const fs::path& folder : golden_models()) {
    SCOPED_TRACE(folder.filename().string());
    const auto checkpoint = open_checkpoint(folder);
    const ModelDescription description = describe_model(*checkpoint).value();
    std::set<std::string> used;
    for (const ModuleInfo& module : description.modules) {
      for (const std::string& tensor : {module.weight, module.bias}) {
        EXPECT_TRUE(tensor.empty() || used.insert(tensor).second) << tensor;
      }
    }
    for (const TensorInfo& tensor : checkpoint->tensors()) {
      const bool unused = std::ranges::count(description.unused_tensors, tensor.name) == 1;
      EXPECT_NE(used.contains(tensor.name), unused) << tensor.name;
    }
    const bool has_vision = folder.filename() == "gemma3-wrapper";
    EXPECT_EQ(description.unused_tensors.empty(), !has_vision);
  }
}

TEST(DescribeModelTest, LinearsCarryNamesShapesBlocksAndStages) {
  const auto checkpoint = open_checkpoint(golden_model("llama"));
  const ModelDescription model = describe_model(*checkpoint).value();
  EXPECT_EQ(model.model_type, "llama");
  EXPECT_EQ(model.architecture, "LlamaForCausalLM");
  EXPECT_EQ(model.no_split_module, "LlamaDecoderLayer");
  EXPECT_EQ(model.num_blocks, 3);
  EXPECT_FALSE(model.tied_embeddings);
  const ModuleInfo* key = model.find("model.layers.2.self_attn.k_proj");
  ASSERT_NE(key, nullptr);
  EXPECT_EQ(key->kind, ModuleKind::kLinear);
  EXPECT_EQ(key->rows, 32);
  EXPECT_EQ(key->cols, 64);
  EXPECT_EQ(key->block, 2);
  EXPECT_EQ(key->stage, 0);
  EXPECT_EQ(key->weight, "model.layers.2.self_attn.k_proj.weight");
  EXPECT_EQ(model.find("model.layers.1.mlp.down_proj")->stage, 3);
  EXPECT_EQ(model.find("lm_head")->block, -1);
  EXPECT_EQ(prunable_layers(model).size(), 3u * 7u + 1u);
}

TEST(DescribeModelTest, NamesWithoutThePrefixAreFoundUnderTheUsualModuleNames) {
  const auto checkpoint = open_checkpoint(golden_model("llama-noprefix"));
  const ModelDescription model = describe_model(*checkpoint).value();
  EXPECT_EQ(model.find("model.layers.0.self_attn.q_proj")->weight, "layers.0.self_attn.q_proj.weight");
  EXPECT_EQ(model.find("lm_head")->weight, "");
  EXPECT_EQ(model.find("lm_head")->tied_to, "model.embed_tokens");
  EXPECT_TRUE(model.tied_embeddings);
}

TEST(DescribeModelTest, LegacyNormNamesAreFound) {
  FakeCheckpoint checkpoint(open_checkpoint(golden_model("bert-qa")));
  checkpoint.rename("LayerNorm.weight", "LayerNorm.gamma");
  checkpoint.rename("LayerNorm.bias", "LayerNorm.beta");
  const ModelDescription model = describe_model(checkpoint).value();
  const ModuleInfo* norm = model.find("bert.encoder.layer.0.output.LayerNorm");
  EXPECT_EQ(norm->weight, "bert.encoder.layer.0.output.LayerNorm.gamma");
  EXPECT_EQ(norm->bias, "bert.encoder.layer.0.output.LayerNorm.beta");
}

TEST(DescribeModelTest, ExpertsKeepHubTensorsUnderUnstackedNames) {
  const auto checkpoint = open_checkpoint(golden_model("mixtral"));
  const ModelDescription model = describe_model(*checkpoint).value();
  const ModuleInfo* up = model.find("model.layers.1.mlp.experts.3.up_proj");
  ASSERT_NE(up, nullptr);
  EXPECT_EQ(up->weight, "model.layers.1.block_sparse_moe.experts.3.w3.weight");
  EXPECT_EQ(up->disk_name, "model.layers.1.block_sparse_moe.experts.3.up_proj");
  EXPECT_EQ(up->expert, 3);
  EXPECT_EQ(up->stage, 2);
  EXPECT_EQ(model.find("model.layers.1.mlp.gate")->role, ModuleRole::kRouter);
}

TEST(DescribeModelTest, Conv1dWeightsAreMarkedTransposed) {
  const auto checkpoint = open_checkpoint(golden_model("gpt2"));
  const ModelDescription model = describe_model(*checkpoint).value();
  const ModuleInfo* fused = model.find("transformer.h.0.attn.c_attn");
  EXPECT_TRUE(fused->transposed);
  EXPECT_EQ(fused->rows, 216);
  EXPECT_EQ(fused->cols, 72);
  EXPECT_FALSE(model.find("lm_head")->transposed);
}

TEST(DescribeModelTest, AMissingTensorIsNamed) {
  FakeCheckpoint checkpoint(open_checkpoint(golden_model("llama")));
  checkpoint.remove("model.layers.1.mlp.up_proj.weight");
  const auto description = describe_model(checkpoint);
  ASSERT_FALSE(description.ok());
  EXPECT_EQ(description.error().code, ErrorCode::kBadData);
  EXPECT_NE(description.error().message().find("model.layers.1.mlp.up_proj.weight"), std::string::npos);
}

TEST(DescribeModelTest, AWrongShapeIsNamed) {
  FakeCheckpoint checkpoint(open_checkpoint(golden_model("llama")));
  checkpoint.config()["intermediate_size"] = 171;
  const auto description = describe_model(checkpoint);
  ASSERT_FALSE(description.ok());
  EXPECT_NE(description.error().message().find("[172, 64]"), std::string::npos);
  EXPECT_NE(description.error().message().find("[171, 64]"), std::string::npos);
}

TEST(DescribeModelTest, AStrayBiasIsAnError) {
  FakeCheckpoint checkpoint(open_checkpoint(golden_model("llama-bias")));
  checkpoint.config()["attention_bias"] = false;
  const auto description = describe_model(checkpoint);
  ASSERT_FALSE(description.ok());
  EXPECT_NE(description.error().message().find("q_proj.bias"), std::string::npos);
}

TEST(DescribeModelTest, AHeadWithoutWeightOrTieIsAnError) {
  FakeCheckpoint checkpoint(open_checkpoint(golden_model("qwen2")));
  checkpoint.config()["tie_word_embeddings"] = false;
  const auto description = describe_model(checkpoint);
  ASSERT_FALSE(description.ok());
  EXPECT_NE(description.error().message().find("lm_head.weight"), std::string::npos);
}

TEST(ModuleAtTest, WalksPartByPartAndNamesTheFailingPart) {
  const auto checkpoint = open_checkpoint(golden_model("llama"));
  const ModelDescription model = describe_model(*checkpoint).value();
  EXPECT_EQ(module_at(model, "model.layers.0.self_attn.q_proj").value()->class_name, "Linear");
  EXPECT_EQ(module_at(model, "").value()->class_name, "LlamaForCausalLM");
  const auto wrong = module_at(model, "model.layers.0.self_atn.q_proj");
  ASSERT_FALSE(wrong.ok());
  EXPECT_NE(wrong.error().message().find("self_atn"), std::string::npos);
  EXPECT_NE(wrong.error().message().find("self_attn"), std::string::npos);
  EXPECT_FALSE(module_at(model, "model.layers.9").ok());
}

TEST(FindModuleTest, AnchorsAtTheStartOnly) {
  const auto checkpoint = open_checkpoint(golden_model("llama"));
  const ModelDescription model = describe_model(*checkpoint).value();
  EXPECT_EQ(find_module(model, "re:.*q_proj").value()->name, "model.layers.0.self_attn.q_proj");
  EXPECT_EQ(find_module(model, "model.layers.1.mlp").value()->name, "model.layers.1.mlp");
  EXPECT_EQ(find_module(model, "q_proj").value(), nullptr);
  EXPECT_FALSE(find_module(model, "re:(").ok());
}

TEST(SequentialTargetsTest, UserThenArchitectureThenDetection) {
  const auto checkpoint = open_checkpoint(golden_model("llama"));
  ModelDescription model = describe_model(*checkpoint).value();
  EXPECT_EQ(sequential_targets(model, {"Linear"}).rule, SequentialTargetRule::kUser);
  EXPECT_EQ(sequential_targets(model, {}).targets, std::vector<std::string>{"LlamaDecoderLayer"});
  model.no_split_module = "";
  const SequentialTargets detected = sequential_targets(model, {});
  EXPECT_EQ(detected.rule, SequentialTargetRule::kDetected);
  EXPECT_EQ(detected.targets, std::vector<std::string>{"LlamaDecoderLayer"});
}

}  // namespace
}  // namespace nibble
