// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/module_match.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <numeric>
#include <set>

#include "base/suggest.h"

namespace nibble {
namespace {

constexpr std::string_view kRegexPrefix = "re:";

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

}  // namespace

Result<ModuleTarget> ModuleTarget::parse(std::string text) {
  ModuleTarget target;
  if (text.starts_with(kRegexPrefix)) {
    TRY_ASSIGN(target.regex_, Regex::compile(std::string_view(text).substr(kRegexPrefix.size())));
  }
  target.text_ = std::move(text);
  return target;
}

Status ModuleTarget::check(std::string_view module) const {
  if (!regex_) return {};
  const auto found = regex_->matches_prefix(module);
  if (!found.ok()) return Error(found.error()).add_context(fmt::format("module {}", module));
  return {};
}

bool ModuleTarget::matches_name(std::string_view module) const {
  if (!regex_) return text_ == module;
  const auto found = regex_->matches_prefix(module);
  return found.ok() && *found;
}

bool ModuleTarget::matches_class(std::span<const std::string_view> classes) const {
  if (regex_) return false;
  const std::string_view wanted = text_ == "LinearBase" ? "Linear" : std::string_view(text_);
  return std::find(classes.begin(), classes.end(), wanted) != classes.end();
}

Result<ModuleTargets> ModuleTargets::parse(const std::vector<std::string>& texts) {
  ModuleTargets list;
  for (const std::string& text : texts) {
    TRY_ASSIGN(ModuleTarget target, ModuleTarget::parse(text));
    list.targets_.push_back(std::move(target));
  }
  list.order_.resize(texts.size());
  std::iota(list.order_.begin(), list.order_.end(), std::size_t{0});
  std::sort(list.order_.begin(), list.order_.end(), [&](std::size_t a, std::size_t b) {
    const int order = list.targets_[a].text().compare(list.targets_[b].text());
    return order != 0 ? order < 0 : a > b;
  });
  return list;
}

Status ModuleTargets::check(std::string_view module) const {
  for (const ModuleTarget& target : targets_) TRY(target.check(module));
  return {};
}

std::optional<std::size_t> ModuleTargets::winner(std::string_view module,
                                                 std::span<const std::string_view> classes) const {
  const auto first = [&](auto matches) -> std::optional<std::size_t> {
    for (const std::size_t i : order_) {
      if (matches(targets_[i])) return i;
    }
    return std::nullopt;
  };
  auto found = first([&](const ModuleTarget& t) { return !t.is_regex() && t.matches_name(module); });
  if (!found) found = first([&](const ModuleTarget& t) { return t.is_regex() && t.matches_name(module); });
  if (!found) found = first([&](const ModuleTarget& t) { return t.matches_class(classes); });
  return found;
}

std::string nearest_module(const std::string& pattern, std::span<const std::string> names,
                           std::span<const std::string> classes) {
  const bool is_regex = pattern.starts_with(kRegexPrefix);
  std::set<std::string> known;
  for (const std::string& name : names) known.insert(is_regex ? last_part(name) : name);
  if (!is_regex) known.insert(classes.begin(), classes.end());
  const std::vector<std::string> candidates(known.begin(), known.end());
  return did_you_mean(is_regex ? longest_word(pattern.substr(kRegexPrefix.size())) : pattern, candidates);
}

bool looks_like_embedding(std::string_view module) {
  const auto dot = module.rfind('.');
  const std::string_view last = dot == std::string_view::npos ? module : module.substr(dot + 1);
  if (last == "embed_out") return false;  // the head of GPT-NeoX
  return last.find("embed") != std::string_view::npos || last == "wte" || last == "wpe";
}

}  // namespace nibble
