// SPDX-License-Identifier: Apache-2.0
#include "model/config.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "model/model_test_util.h"
#include "model/module_tree.h"

namespace nibble {
namespace {

Json llama_config() {
  return Json{{"architectures", {"LlamaForCausalLM"}},
              {"model_type", "llama"},
              {"hidden_size", 64},
              {"intermediate_size", 112},
              {"num_hidden_layers", 2},
              {"num_attention_heads", 4},
              {"num_key_value_heads", 2},
              {"vocab_size", 320},
              {"max_position_embeddings", 64},
              {"rms_norm_eps", 1e-5},
              {"hidden_act", "silu"}};
}

// What the message of each damaged configuration must name.
TEST(ModelConfigTest, EveryDamagedConfigurationIsRefusedByFileAndKey) {
  const std::map<std::string, std::string> named = {
      {"bad-rope-type", "spiral"},
      {"float-size", "num_hidden_layers"},
      {"hidden-not-divisible", "head_dim"},
      {"huge-layers", "num_hidden_layers"},
      {"kv-not-divisor", "num_key_value_heads"},
      {"negative-hidden", "hidden_size"},
      {"no-model-type", "model_type"},
      {"rope-factor-zero", "factor"},
      {"string-size", "hidden_size"},
      {"unknown-act", "wobble"},
      {"unknown-arch", "nosuchmodel"},
      {"zero-heads", "num_attention_heads"},
      {"array", "object"},
      {"not-json", "line"},
  };
  const auto root = golden_root() / "malformed/config";
  int seen = 0;
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    const std::string name = entry.path().filename().string();
    SCOPED_TRACE(name);
    ASSERT_TRUE(named.contains(name));
    const Result<Json> document = read_json_file(entry.path() / "config.json");
    std::string message;
    if (!document.ok()) {
      message = document.error().message();
    } else {
      FakeCheckpoint checkpoint(open_checkpoint(golden_model("llama")));
      checkpoint.config() = *document;
      const auto config = read_checkpoint_config(checkpoint);
      ASSERT_FALSE(config.ok());
      EXPECT_EQ(config.error().code, ErrorCode::kBadData);
      message = config.error().message();
    }
    EXPECT_NE(message.find("config.json"), std::string::npos) << message;
    EXPECT_NE(message.find(named.at(name)), std::string::npos) << message;
    ++seen;
  }
  EXPECT_EQ(seen, 14);
}

TEST(ModelConfigTest, OldAndNewSpellingsOfRopeAgree) {
  Json old_style = llama_config();
  old_style["rope_theta"] = 500000.0;
  old_style["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
  Json new_style = llama_config();
  new_style["rope_parameters"] = {{"rope_type", "linear"}, {"factor", 4.0}, {"rope_theta", 500000.0}};
  const RopeConfig a = read_model_config(old_style).value().ropes.front();
  const RopeConfig b = read_model_config(new_style).value().ropes.front();
  EXPECT_EQ(a.kind, RopeKind::kLinear);
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.theta, b.theta);
  EXPECT_EQ(a.theta, 500000.0);
  EXPECT_EQ(a.factor, b.factor);
}

TEST(ModelConfigTest, MissingModelTypeIsFoundFromTheClass) {
  Json config = llama_config();
  config.erase("model_type");
  EXPECT_EQ(read_model_config(config).value().row->model_type, "llama");
  config["architectures"] = {"LlammaForCausalLM"};
  const auto wrong = read_model_config(config);
  ASSERT_FALSE(wrong.ok());
  EXPECT_NE(wrong.error().message().find("LlamaForCausalLM"), std::string::npos);
}

TEST(ModelConfigTest, AForeignHeadIsRefusedWithTheKnownOnes) {
  Json config = llama_config();
  config["architectures"] = {"LlamaForTokenClassification"};
  const auto wrong = read_model_config(config);
  ASSERT_FALSE(wrong.ok());
  EXPECT_NE(wrong.error().message().find("LlamaForSequenceClassification"), std::string::npos);
}

TEST(ModelConfigTest, NullsTakeTheDefaults) {
  Json config = llama_config();
  config["head_dim"] = nullptr;
  config["num_key_value_heads"] = nullptr;
  config["rope_scaling"] = nullptr;
  const ModelConfig model = read_model_config(config).value();
  EXPECT_EQ(model.head_dim, 16);
  EXPECT_EQ(model.kv_heads, 4);
  EXPECT_EQ(model.ropes.front().kind, RopeKind::kDefault);
}

TEST(ModelConfigTest, WindowsFollowTheFamily) {
  Json config = llama_config();
  config["num_hidden_layers"] = 4;
  config["sliding_window"] = 8;
  config["architectures"] = nullptr;
  const auto windows = [&config](const char* model_type) {
    config["model_type"] = model_type;
    return read_model_config(config).value().window;
  };
  using Windows = std::vector<std::int64_t>;
  EXPECT_EQ(windows("llama"), (Windows{0, 0, 0, 0}));
  EXPECT_EQ(windows("mistral"), (Windows{8, 8, 8, 8}));
  EXPECT_EQ(windows("qwen2"), (Windows{0, 0, 0, 0}));
  EXPECT_EQ(windows("gemma2"), (Windows{8, 0, 8, 0}));
  config["use_sliding_window"] = true;
  config["max_window_layers"] = 2;
  EXPECT_EQ(windows("qwen2"), (Windows{0, 0, 8, 8}));
  EXPECT_EQ(windows("qwen3_moe"), (Windows{8, 8, 8, 8}));
  config["sliding_window_pattern"] = 3;
  EXPECT_EQ(windows("gemma3_text"), (Windows{8, 8, 0, 8}));
  config["sliding_window"] = nullptr;
  EXPECT_EQ(windows("mistral"), (Windows{0, 0, 0, 0}));
}

TEST(ModelConfigTest, CountsThatWouldFillMemoryAreRefused) {
  Json mixture = llama_config();
  mixture["model_type"] = "mixtral";
  mixture["architectures"] = nullptr;
  mixture["num_hidden_layers"] = 4096;
  mixture["num_local_experts"] = 60000;
  EXPECT_FALSE(read_model_config(mixture).ok());
  Json heads = llama_config();
  heads["model_type"] = "stablelm";
  heads["architectures"] = nullptr;
  heads["qk_layernorm"] = true;
  heads["num_hidden_layers"] = 4096;
  heads["hidden_size"] = heads["num_attention_heads"] = heads["num_key_value_heads"] = 32768;
  EXPECT_FALSE(read_model_config(heads).ok());
}

TEST(ArchitectureTableTest, RowsAreWellFormed) {
  std::vector<std::string_view> seen;
  for (const Architecture& row : architectures()) {
    SCOPED_TRACE(row.model_type);
    for (const std::string_view other : seen) EXPECT_NE(other, row.model_type);
    seen.push_back(row.model_type);
    EXPECT_EQ(find_architecture(row.model_type), &row);
    EXPECT_FALSE(row.classes.empty());
    bool has_block = false;
    for (const Node& node : row.tree) has_block = has_block || node.role == ModuleRole::kBlock;
    EXPECT_TRUE(has_block);
  }
  EXPECT_GE(seen.size(), 21u);
  EXPECT_EQ(find_architecture("nosuchmodel"), nullptr);
}

}  // namespace
}  // namespace nibble
