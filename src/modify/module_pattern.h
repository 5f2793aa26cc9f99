// SPDX-License-Identifier: Apache-2.0
// How recipes name modules (compressed-tensors utils/match.py): an exact name, the name of a class or of a
// base class, or `re:` and a Python regular expression that matches from the start of the name.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/regex.h"
#include "model/modules.h"

namespace nibble {

class ModulePattern {
 public:
  static Result<ModulePattern> parse(std::string text);

  const std::string& text() const { return text_; }
  bool is_regex() const { return regex_.has_value(); }
  bool matches_name(const ModuleInfo& module) const;
  bool matches_class(const ModuleInfo& module) const;
  bool matches(const ModuleInfo& module) const { return matches_name(module) || matches_class(module); }

 private:
  explicit ModulePattern(std::string text) : text_(std::move(text)) {}
  std::string text_;
  std::optional<Regex> regex_;
};

Result<std::vector<ModulePattern>> parse_patterns(const std::vector<std::string>& texts);
bool matches_any(const std::vector<ModulePattern>& patterns, const ModuleInfo& module);
// In the order in which the reference lets targets win: exact names, then expressions, then classes, each
// alphabetically. The index into `patterns` of the first that matches; nothing when none does. `patterns`
// must be sorted by sort_patterns().
void sort_patterns(std::vector<ModulePattern>& patterns);
std::optional<std::size_t> winning_pattern(const std::vector<ModulePattern>& patterns,
                                           const ModuleInfo& module);

// A pattern and how many modules it matched, for reports; zero is an error or a warning.
struct PatternCount {
  std::string pattern;
  bool is_ignore = false;
  std::int64_t matches = 0;
};
// "did you mean ...", from the names and classes of the model; empty for expressions.
std::string nearest_module(const ModulePattern& pattern, const ModelDescription& model);

}  // namespace nibble
