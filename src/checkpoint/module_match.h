// SPDX-License-Identifier: Apache-2.0
// Which modules a target or ignore entry means (compressed-tensors: utils/match.py): an exact name, the name
// of a class (or of a base class), or `re:` and a regular expression matched from the start of the name but
// not to its end.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/regex.h"

namespace nibble {

// The classes of a module that is known to be a linear, for the functions below.
inline constexpr std::array<std::string_view, 1> kLinearClass{"Linear"};

class ModuleTarget {
 public:
  static Result<ModuleTarget> parse(std::string text);

  const std::string& text() const { return text_; }
  bool is_regex() const { return regex_.has_value(); }
  // An error when the expression backtracks without end on the name. matches_name() is false then, so names
  // are checked before they are matched.
  Status check(std::string_view module) const;
  bool matches_name(std::string_view module) const;
  // `classes`: the module's class and its base classes. vLLM's "LinearBase" is a "Linear".
  bool matches_class(std::span<const std::string_view> classes) const;

 private:
  std::string text_;
  std::optional<Regex> regex_;
};

class ModuleTargets {
 public:
  static Result<ModuleTargets> parse(const std::vector<std::string>& texts);

  const std::vector<ModuleTarget>& targets() const { return targets_; }  // in the order given
  Status check(std::string_view module) const;                           // of each target
  bool matches(std::string_view module, std::span<const std::string_view> classes) const {
    return winner(module, classes).has_value();
  }
  // Index of the target that wins: exact names before expressions before classes, each alphabetically; the
  // last of equal texts, as in the reference.
  std::optional<std::size_t> winner(std::string_view module, std::span<const std::string_view> classes) const;

 private:
  std::vector<ModuleTarget> targets_;
  std::vector<std::size_t> order_;  // of targets_: alphabetically, the last of equals first
};

// "did you mean ...?" for a pattern that matches none of these; or an empty string. An expression is compared
// by its longest word with the last parts of the names.
std::string nearest_module(const std::string& pattern, std::span<const std::string> names,
                           std::span<const std::string> classes);

// Files name tensors, not classes. A matrix is a linear unless the last part of its module's name says
// "embed" (or is GPT-2's wte or wpe).
bool looks_like_embedding(std::string_view module);

}  // namespace nibble
