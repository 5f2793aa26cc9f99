// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/module_match.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace nibble {
namespace {

constexpr std::string_view kRegexPrefix = "re:";

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

bool looks_like_embedding(std::string_view module) {
  const auto dot = module.rfind('.');
  const std::string_view last = dot == std::string_view::npos ? module : module.substr(dot + 1);
  if (last == "embed_out") return false;  // the head of GPT-NeoX
  return last.find("embed") != std::string_view::npos || last == "wte" || last == "wpe";
}

}  // namespace nibble
