// SPDX-License-Identifier: Apache-2.0
#include "model/module_lookup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "model/model_test_util.h"

namespace nibble {
namespace {

using ::testing::HasSubstr;

std::vector<std::string> names_of(const std::vector<const ModuleInfo*>& modules) {
  std::vector<std::string> names;
  for (const ModuleInfo* module : modules) names.push_back(module->name);
  return names;
}

// Of every architecture: a name finds its module, a class all of its modules, a path what lies below it, and
// all of them keep module order.
TEST(ModuleLookup, NamesClassesAndPathsAgreeOnEveryModel) {
  for (const auto& folder : golden_models()) {
    SCOPED_TRACE(folder.filename().string());
    const auto checkpoint = open_checkpoint(folder);
    const ModelDescription model = describe_model(*checkpoint).value();
    for (const ModuleInfo& module : model.modules) {
      const auto by_path = modules_under(model, module.name);
      ASSERT_TRUE(by_path.ok()) << module.name;
      for (const ModuleInfo& other : model.modules) {
        const bool below = std::count(by_path->begin(), by_path->end(), &other) == 1;
        const bool starts =
            module.name.empty() || other.name == module.name || other.name.starts_with(module.name + ".");
        EXPECT_EQ(below, starts) << other.name << " under " << module.name;
      }
      if (module.name.empty()) continue;
      const auto by_name = find_modules(model, module.name);
      ASSERT_TRUE(by_name.ok()) << module.name;
      EXPECT_EQ(std::count(by_name->begin(), by_name->end(), &module), 1);
      if (module.role == ModuleRole::kRouter) continue;
      const auto by_class = find_modules(model, module.class_name);
      ASSERT_TRUE(by_class.ok()) << module.class_name;
      EXPECT_EQ(std::count(by_class->begin(), by_class->end(), &module), 1);
      EXPECT_TRUE(
          std::is_sorted(by_class->begin(), by_class->end()));  // addresses in one vector: module order
    }
  }
}

TEST(ModuleLookup, ExpressionsMatchFromTheStart) {
  const auto checkpoint = open_checkpoint(golden_model("llama"));
  const ModelDescription model = describe_model(*checkpoint).value();
  EXPECT_EQ(names_of(find_modules(model, "re:model.layers.[01].*down_proj").value()),
            (std::vector<std::string>{"model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"}));
  EXPECT_FALSE(find_modules(model, "re:down_proj").ok());
  EXPECT_FALSE(find_modules(model, "re:(").ok());
  EXPECT_EQ(find_modules(model, "LlamaDecoderLayer")->size(), 3u);
}

TEST(ModuleLookup, WhatMatchesNothingNamesTheNearest) {
  const auto checkpoint = open_checkpoint(golden_model("llama"));
  const ModelDescription model = describe_model(*checkpoint).value();
  const auto class_typo = find_modules(model, "Linaer");
  ASSERT_FALSE(class_typo.ok());
  EXPECT_THAT(class_typo.error().message(), HasSubstr("Linear"));
  const auto name_typo = find_modules(model, "model.layers.0.mlp.dwn_proj");
  ASSERT_FALSE(name_typo.ok());
  EXPECT_THAT(name_typo.error().message(), HasSubstr("model.layers.0.mlp.down_proj"));
  const auto path_typo = modules_under(model, "model.layer.0");
  ASSERT_FALSE(path_typo.ok());
  EXPECT_THAT(path_typo.error().message(), HasSubstr("layers"));
}

TEST(ModuleLookup, QuantizableAreLinearsAndEmbeddingsButNoRouters) {
  const auto checkpoint = open_checkpoint(golden_model("mixtral"));
  const ModelDescription model = describe_model(*checkpoint).value();
  std::size_t routers = 0, embeddings = 0;
  for (const ModuleInfo& module : model.modules) {
    routers += module.kind == ModuleKind::kLinear && module.role == ModuleRole::kRouter ? 1u : 0u;
    embeddings += module.kind == ModuleKind::kEmbedding ? 1u : 0u;
  }
  EXPECT_GT(routers, 0u);
  EXPECT_EQ(quantizable_modules(model).size(), prunable_layers(model).size() - routers + embeddings);
}

}  // namespace
}  // namespace nibble
