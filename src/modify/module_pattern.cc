// SPDX-License-Identifier: Apache-2.0
#include "modify/module_pattern.h"

#include <algorithm>
#include <set>

#include "base/suggest.h"

namespace nibble {

Result<ModulePattern> ModulePattern::parse(std::string text) {
  ModulePattern pattern(std::move(text));
  if (pattern.text_.starts_with("re:")) {
    TRY_ASSIGN(pattern.regex_, Regex::compile(std::string_view(pattern.text_).substr(3)));
  }
  return pattern;
}

bool ModulePattern::matches_name(const ModuleInfo& module) const {
  return regex_ ? regex_->matches_prefix(module.name) : text_ == module.name;
}

bool ModulePattern::matches_class(const ModuleInfo& module) const {
  if (regex_) return false;
  if (text_ == "Module") return true;
  // A router is no nn.Linear in the reference, although it is one in its effect.
  if (text_ == "Linear" || text_ == "LinearBase")
    return module.class_name == "Linear" && module.role != ModuleRole::kRouter;
  if (text_ == "Embedding") return module.kind == ModuleKind::kEmbedding;
  return text_ == module.class_name;
}

Result<std::vector<ModulePattern>> parse_patterns(const std::vector<std::string>& texts) {
  std::vector<ModulePattern> patterns;
  for (const std::string& text : texts) {
    TRY_ASSIGN(ModulePattern pattern, ModulePattern::parse(text));
    patterns.push_back(std::move(pattern));
  }
  return patterns;
}

bool matches_any(const std::vector<ModulePattern>& patterns, const ModuleInfo& module) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const ModulePattern& p) { return p.matches(module); });
}

void sort_patterns(std::vector<ModulePattern>& patterns) {
  std::stable_sort(patterns.begin(), patterns.end(), [](const ModulePattern& a, const ModulePattern& b) {
    return std::pair(a.is_regex(), std::string_view(a.text())) <
           std::pair(b.is_regex(), std::string_view(b.text()));
  });
}

std::optional<std::size_t> winning_pattern(const std::vector<ModulePattern>& patterns,
                                           const ModuleInfo& module) {
  for (const bool by_name : {true, false}) {
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      if (by_name ? patterns[i].matches_name(module) : patterns[i].matches_class(module)) return i;
    }
  }
  return std::nullopt;
}

std::string nearest_module(const ModulePattern& pattern, const ModelDescription& model) {
  if (pattern.is_regex()) return {};
  std::set<std::string> names;
  for (const ModuleInfo& module : model.modules) {
    names.insert(module.name);
    names.insert(module.class_name);
  }
  const std::vector<std::string> candidates(names.begin(), names.end());
  return did_you_mean(pattern.text(), candidates);
}

}  // namespace nibble
