// SPDX-License-Identifier: Apache-2.0
#include "modify/module_pattern.h"

#include <set>

#include "base/suggest.h"

namespace nibble {

std::vector<std::string_view> classes_of(const ModuleInfo& module) {
  if (module.role == ModuleRole::kRouter) return {"Module"};
  std::vector<std::string_view> classes{module.class_name, "Module"};
  if (module.kind == ModuleKind::kEmbedding && module.class_name != "Embedding")
    classes.emplace_back("Embedding");
  return classes;
}

bool matches(const ModuleTarget& target, const ModuleInfo& module) {
  return target.matches_name(module.name) || target.matches_class(classes_of(module));
}

std::vector<PatternCount> count_matches(const ModuleTargets& targets, bool is_ignore,
                                        const ModelDescription& model) {
  std::vector<PatternCount> counts;
  for (const ModuleTarget& target : targets.targets()) {
    PatternCount count{target.text(), is_ignore, 0};
    for (const ModuleInfo& module : model.modules) count.matches += matches(target, module) ? 1 : 0;
    counts.push_back(std::move(count));
  }
  return counts;
}

std::string nearest_module(const std::string& pattern, const ModelDescription& model) {
  if (pattern.starts_with("re:")) return {};
  std::set<std::string> names;
  for (const ModuleInfo& module : model.modules) {
    names.insert(module.name);
    names.insert(module.class_name);
  }
  const std::vector<std::string> candidates(names.begin(), names.end());
  return did_you_mean(pattern, candidates);
}

}  // namespace nibble
