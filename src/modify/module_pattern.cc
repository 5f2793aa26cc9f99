// SPDX-License-Identifier: Apache-2.0
#include "modify/module_pattern.h"

namespace nibble {
namespace {

Status check_expression(const std::string& text, const ModelDescription& model) {
  const auto target = ModuleTarget::parse(text);
  if (!target.ok()) return {};  // told, with its key, where the modifier reads it
  for (const ModuleInfo& module : model.modules) {
    TRY(target->check(module.name));
    TRY(target->check(module.name + ".weight"));
  }
  return {};
}

}  // namespace

Status check_patterns(const RecipeValue& value, const ModelDescription& model) {
  if (const std::string* text = value.if_text(); text && text->starts_with("re:"))
    return check_expression(*text, model);
  if (const RecipeValue::List* list = value.if_list()) {
    for (const RecipeValue& item : *list) TRY(check_patterns(item, model));
  }
  if (const RecipeValue::Map* map = value.if_map()) {
    for (const auto& [key, item] : *map) {
      TRY(check_patterns(key, model));
      TRY(check_patterns(item, model).at(key));
    }
  }
  return {};
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

}  // namespace nibble
