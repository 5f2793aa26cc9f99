// SPDX-License-Identifier: Apache-2.0
#include "session/recipe_variables.h"

#include <fmt/format.h>

#include "base/suggest.h"
#include "session/yaml.h"

namespace nibble {
namespace {

std::vector<std::string> keys_of(const RecipeValue& map) {
  std::vector<std::string> names;
  for (const auto& [key, value] : *map.if_map()) names.push_back(key);
  return names;
}

Error unknown_variable(const std::string& name, const RecipeValue& args) {
  const std::vector<std::string> names = keys_of(args);
  std::string hint = did_you_mean(name, names);
  if (hint.empty())
    hint = names.empty() ? "the recipe has no args" : "the recipe's args are " + join_or(names);
  return usage_error(fmt::format("the recipe has no variable \"{}\"", name), std::move(hint));
}

bool is_identifier(std::string_view text) {
  if (text.empty() || (text[0] >= '0' && text[0] <= '9')) return false;
  for (const char c : text) {
    const bool letter =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    if (!letter) return false;
  }
  return true;
}

// The name in `$name` or `${name}`.
std::string variable_in(const std::string& text) {
  if (text.size() < 2 || text[0] != '$') return {};
  const bool braces = text[1] == '{' && text.back() == '}';
  const std::string name = braces ? text.substr(2, text.size() - 3) : text.substr(1);
  return is_identifier(name) ? name : std::string();
}

Status substitute(RecipeValue& value, const RecipeValue& args) {
  if (const std::string* text = value.if_text()) {
    const std::string name = variable_in(*text);
    if (name.empty()) return {};
    const RecipeValue* found = args.find(name);
    if (!found) {
      Error error = unknown_variable(name, args);
      if (value.line > 0) error.add_context(fmt::format("line {}", value.line));
      return error;
    }
    const int line = value.line;
    value = *found;
    value.line = line;
  } else if (RecipeValue::List* list = value.if_list()) {
    for (RecipeValue& item : *list) TRY(substitute(item, args));
  } else if (RecipeValue::Map* map = value.if_map()) {
    for (auto& [key, item] : *map) TRY(substitute(item, args));
  }
  return {};
}

Status set_args(RecipeValue& args, const std::vector<std::string>& settings) {
  for (const std::string& setting : settings) {
    const std::size_t equals = setting.find('=');
    if (equals == std::string::npos || equals == 0) {
      return usage_error(fmt::format("\"{}\" is not of the form key=value", setting));
    }
    const std::string key = setting.substr(0, equals);
    if (!args.find(key)) return unknown_variable(key, args);
    TRY_ASSIGN(RecipeValue value, read_yaml(setting.substr(equals + 1)));
    args.set(key, std::move(value));
  }
  return {};
}

}  // namespace

Status apply_variables(RecipeValue& tree, const RecipeOptions& options, RecipeValue& args) {
  if (const RecipeValue* found = tree.find("args"); found && !found->is_null()) args = *found;
  if (!args.if_map()) return usage_error(fmt::format("args is {}; it must be a map", args.describe()));
  if (options.rules.strict) return {};
  TRY(set_args(args, options.recipe_args));
  for (auto& [key, value] : *tree.if_map()) {
    if (key != "args") TRY(substitute(value, args));
  }
  return {};
}

}  // namespace nibble
