// SPDX-License-Identifier: Apache-2.0
#include "session/recipe.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "base/json.h"
#include "base/suggest.h"
#include "session/recipe_variables.h"
#include "session/yaml.h"

namespace nibble {
namespace {

// Arguments that an AWQModifier of older recipes carried for the quantization that follows it.
constexpr std::string_view kQuantizationKeys[] = {
    "config_groups",   "targets",        "ignore",          "scheme",   "kv_cache_scheme",
    "weight_observer", "input_observer", "output_observer", "observer", "bypass_divisibility_checks"};

bool is_quantization_key(std::string_view key) {
  return std::find(std::begin(kQuantizationKeys), std::end(kQuantizationKeys), key) !=
         std::end(kQuantizationKeys);
}

// Python's str.replace(suffix, "").
std::string without(std::string text, std::string_view part) {
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part))
    text.erase(at, part.size());
  return text;
}

Error at_line(Error error, const RecipeValue& value) {
  if (value.line > 0 && error.where.find("line ") == std::string::npos)
    error.add_context(fmt::format("line {}", value.line));
  return error;
}

class Reader {
 public:
  explicit Reader(const RecipeOptions& options) : options_(options) {}

  Result<Recipe> read(RecipeValue tree) {
    if (!tree.if_map()) {
      return usage_error(fmt::format("a recipe is a map of stages, not {}", tree.describe()),
                         "such as: quant_stage: {quant_modifiers: {QuantizationModifier: {scheme: W4A16}}}");
    }
    TRY(apply_variables(tree, options_, recipe_.args));
    for (const auto& [key, value] : *tree.if_map()) TRY(read_top(key, value));
    if (!options_.stage.empty() && !std::string_view("args").starts_with(options_.stage)) {
      recipe_.args = RecipeValue::Map{};
    }
    TRY(check_followers());
    return std::move(recipe_);
  }

 private:
  void ignore(std::string_view key, const RecipeValue& value, std::string_view why) {
    recipe_.warnings.push_back(fmt::format(
        "{}\"{}\" is ignored: {}", value.line > 0 ? fmt::format("line {}: ", value.line) : "", key, why));
  }

  Status read_top(const std::string& key, const RecipeValue& value) {
    if (key == "args") return {};
    if (!key.ends_with("_stage") || !value.if_map()) {
      ignore(key, value, "only maps under keys that end in _stage hold modifiers");
      return {};
    }
    recipe_.stages.push_back(key);
    if (!key.starts_with(options_.stage)) return {};
    recipe_.stage = without(key, "_stage");
    for (const auto& [group, modifiers] : *value.if_map()) {
      if (group.ends_with("_modifiers") && modifiers.if_map()) {
        TRY(read_group(without(group, "_modifiers"), *modifiers.if_map()));
      } else {
        ignore(group, modifiers, "only maps under keys that end in _modifiers hold modifiers");
      }
    }
    return {};
  }

  Status read_group(const std::string& group, const RecipeValue::Map& modifiers) {
    for (const auto& [class_name, body] : modifiers) {
      if (body.is_null() && options_.rules.strict) {
        return at_line(
            usage_error(fmt::format("{} has no arguments", class_name), "write {} for the defaults"), body);
      }
      if (class_name == "AWQModifier" && !options_.rules.strict && body.if_map()) {
        TRY(read_old_awq(group, body));
      } else {
        TRY(read_modifier(class_name, group, body));
      }
    }
    return {};
  }

  Status read_modifier(const std::string& class_name, const std::string& group, const RecipeValue& body) {
    std::vector<std::string> warnings;
    auto config = make_modifier_config(class_name, recipe_.stage, group, body, options_.rules, warnings);
    if (!config.ok()) return at_line(std::move(config).error(), body);
    recipe_.modifiers.push_back(std::move(config).value());
    for (const std::string& warning : warnings) recipe_.warnings.push_back(class_name + ": " + warning);
    return {};
  }

  // AWQModifier with a scheme: the form before scaling and quantization became two modifiers.
  Status read_old_awq(const std::string& group, const RecipeValue& body) {
    RecipeValue::Map own;
    RecipeValue::Map quantization;
    for (const auto& entry : *body.if_map())
      (is_quantization_key(entry.first) ? quantization : own).push_back(entry);
    RecipeValue awq(std::move(own));
    awq.line = body.line;
    TRY(read_modifier("AWQModifier", group, awq));
    if (quantization.empty()) return {};
    RecipeValue rest(std::move(quantization));
    rest.line = body.line;
    recipe_.warnings.emplace_back(
        "AWQModifier: its quantization arguments are read as a QuantizationModifier that follows it (older "
        "form)");
    return read_modifier("QuantizationModifier", group, rest);
  }

  Status check_followers() {
    bool follows = false;
    for (auto modifier = recipe_.modifiers.rbegin(); modifier != recipe_.modifiers.rend(); ++modifier) {
      follows = follows || modifier->row->quantizes;
      if (modifier->class_name() == "AWQModifier" && !follows) {
        return usage_error(
            "AWQModifier has no quantizing modifier after it, so there is nothing to scale for",
            "add a QuantizationModifier or GPTQModifier behind it");
      }
    }
    return {};
  }

  const RecipeOptions& options_;
  Recipe recipe_;
};

// The text between a first line `---` (or `+++`) and the next such line.
Result<std::string_view> front_matter(std::string_view text) {
  const auto is_fence = [](std::string_view line) {
    const std::size_t first = line.find_first_not_of(" \t\r");
    return first != std::string_view::npos &&
           (line.substr(first).starts_with("---") || line.substr(first).starts_with("+++"));
  };
  std::size_t begin = std::string_view::npos;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    if (is_fence(text.substr(at, end - at))) {
      if (begin != std::string_view::npos) return text.substr(begin, at - begin);
      begin = std::min(end + 1, text.size());
    }
    at = end + 1;
  }
  return usage_error("the Markdown text has no YAML front matter", "put the recipe between two lines ---");
}

Result<RecipeValue> read_json_tree(std::string_view text) {
  TRY_ASSIGN(const Json json, parse_json(text));
  return recipe_value_from_json(json);
}

Result<RecipeValue> read_tree(std::string_view text, RecipeSyntax syntax, const RecipeRules& rules) {
  const YamlRules yaml{.python_tags = !rules.strict};
  switch (syntax) {
    case RecipeSyntax::kJson:
      return read_json_tree(text);
    case RecipeSyntax::kMarkdown: {
      TRY_ASSIGN(const std::string_view front, front_matter(text));
      return read_yaml(front, yaml);
    }
    case RecipeSyntax::kYaml:
      return read_yaml(text, yaml);
    case RecipeSyntax::kAny:
      break;
  }
  if (auto json = read_json_tree(text); json.ok()) return json;
  return read_yaml(text, yaml);
}

std::string lower_extension(const std::filesystem::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return extension;
}

std::optional<RecipeSyntax> syntax_of(const std::string& extension) {
  if (extension == ".yaml" || extension == ".yml") return RecipeSyntax::kYaml;
  if (extension == ".json") return RecipeSyntax::kJson;
  if (extension == ".md") return RecipeSyntax::kMarkdown;
  return std::nullopt;
}

}  // namespace

Result<Recipe> parse_recipe(std::string_view text, RecipeSyntax syntax, const RecipeOptions& options) {
  TRY_ASSIGN(RecipeValue tree, read_tree(text, syntax, options.rules));
  return Reader(options).read(std::move(tree));
}

Result<Recipe> load_recipe(const std::string& recipe, const RecipeOptions& options) {
  const bool one_line = recipe.find('\n') == std::string::npos && recipe.size() < 4096;
  const std::filesystem::path path = one_line ? std::filesystem::path(recipe) : std::filesystem::path();
  std::error_code ignored;
  if (!one_line || !std::filesystem::is_regular_file(path, ignored)) {
    if (one_line && std::filesystem::is_directory(path, ignored)) {
      return usage_error(fmt::format("the recipe {} is a folder", recipe), "name the file in it");
    }
    const bool looks_like_text = recipe.find_first_of(":{ ") != std::string::npos;
    if (one_line && (syntax_of(lower_extension(path)) || !looks_like_text)) {
      return no_input(fmt::format("there is no recipe file {}", recipe),
                      "give a .yaml, .json or .md file, or the text of a recipe");
    }
    return parse_recipe(recipe, RecipeSyntax::kAny, options).at("recipe text");
  }
  const std::string where = fmt::format("recipe {}", path.filename().string());
  auto text = read_text_file(path);
  if (!text.ok()) return std::move(text).at(where).error();
  const RecipeSyntax syntax = syntax_of(lower_extension(path)).value_or(RecipeSyntax::kAny);
  return parse_recipe(*text, syntax, options).at(where);
}

Recipe join_recipes(std::vector<Recipe> recipes) {
  Recipe joined;
  for (Recipe& recipe : recipes) {
    joined.stage = recipe.stage;
    for (auto& [key, value] : *recipe.args.if_map()) joined.args.set(key, value);
    const auto append = [](auto& to, auto& from) {
      to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
    };
    append(joined.modifiers, recipe.modifiers);
    append(joined.stages, recipe.stages);
    append(joined.warnings, recipe.warnings);
  }
  return joined;
}

}  // namespace nibble
