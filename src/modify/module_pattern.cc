// SPDX-License-Identifier: Apache-2.0
#include "modify/module_pattern.h"

#include <cctype>
#include <set>

#include "base/suggest.h"

namespace nibble {
namespace {

std::string last_part(const std::string& name) {
  const auto dot = name.rfind('.');
  return dot == std::string::npos ? name : name.substr(dot + 1);
}

// What an expression spells out: its longest run of letters, digits and underscores, where "\\d" is none.
std::string longest_word(std::string_view expression) {
  std::string longest, word;
  for (std::size_t i = 0; i < expression.size(); ++i) {
    const char c = expression[i];
    if (c == '\\') ++i;
    const bool is_word = c == '_' || std::isalnum(static_cast<unsigned char>(c)) != 0;
    word = is_word ? word + c : std::string();
    if (word.size() > longest.size()) longest = word;
  }
  return longest;
}

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

std::string nearest_module(const std::string& pattern, const ModelDescription& model) {
  const bool is_regex = pattern.starts_with("re:");
  std::set<std::string> names;
  for (const ModuleInfo& module : model.modules) {
    names.insert(is_regex ? last_part(module.name) : module.name);
    if (!is_regex) names.insert(module.class_name);
  }
  const std::vector<std::string> candidates(names.begin(), names.end());
  return did_you_mean(is_regex ? longest_word(pattern.substr(3)) : pattern, candidates);
}

}  // namespace nibble
