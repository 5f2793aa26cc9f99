// SPDX-License-Identifier: Apache-2.0
// nibble recipes: what a recipe may say (list, show), and what one says (check).
#include <fmt/format.h>

#include "base/json.h"
#include "base/suggest.h"
#include "codec/scheme.h"
#include "format.h"
#include "modify/modifier_config.h"
#include "program.h"
#include "scheme_text.h"
#include "session/recipe.h"
#include "session/recipe_shortcuts.h"
#include "session/yaml.h"
#include "verbs/verbs.h"

namespace nibble::app {
namespace {

// Presets, methods and modifiers.
Json catalogue() {
  Json document{{"schemes", Json::array()}, {"methods", Json::array()}, {"modifiers", Json::array()}};
  for (const std::string& name : preset_names()) {
    document["schemes"].push_back({{"name", name}, {"summary", scheme_summary(*preset_scheme(name))}});
  }
  for (const MethodRow& row : method_table()) {
    document["methods"].push_back(
        {{"name", row.name}, {"summary", row.summary}, {"modifiers", row.modifiers}});
  }
  for (const ModifierRow& row : modifier_table()) {
    document["modifiers"].push_back({{"name", row.class_name}, {"summary", row.summary}});
  }
  return document;
}

std::string catalogue_text(const Json& document) {
  std::string text;
  const std::pair<const char*, const char*> parts[] = {
      {"schemes", "--scheme"}, {"methods", "--method"}, {"modifiers", "recipe"}};
  for (const auto& [part, heading] : parts) {
    Table table({heading, ""});
    for (const Json& entry : document[part]) {
      table.row({entry["name"].get<std::string>(), entry["summary"].get<std::string>()});
    }
    text += table.text() + "\n";
  }
  return text + "nibble recipes show NAME has the details of each.\n";
}

Json modifier_document(const ModifierRow& row) {
  Json fields = Json::array();
  for (const FieldRow& field : row.fields) {
    if (field.use == FieldUse::kAlias || field.use == FieldUse::kLeftover) continue;
    Json entry{{"name", field.name}, {"value", describe_kinds(field)}, {"required", field.required}};
    entry["default"] = field.required ? Json(nullptr) : to_json(field.initial);
    entry["help"] = field.help;
    fields.push_back(std::move(entry));
  }
  return {{"kind", "modifier"},
          {"name", row.class_name},
          {"summary", row.summary},
          {"fields", std::move(fields)}};
}

std::string modifier_text(const ModifierRow& row) {
  Table table({"argument", "default", "value", ""});
  for (const FieldRow& field : row.fields) {
    if (field.use == FieldUse::kAlias || field.use == FieldUse::kLeftover) continue;
    table.row({field.name, field.required ? "required" : field.initial.to_text(), describe_kinds(field),
               field.help});
  }
  return fmt::format("{}: {}\n\n{}", row.class_name, row.summary, table.text());
}

std::string recipe_text(const Recipe& recipe, const std::string& name) {
  std::string text = fmt::format("{}: {} modifier(s)\n", name, recipe.modifiers.size());
  for (const ModifierConfig& config : recipe.modifiers) {
    text += fmt::format("  {}{}\n", config.class_name(),
                        config.requires_calibration_data() ? " (needs calibration data)" : "");
    if (!config.row->quantizes || !has_quantization(config)) continue;
    const Result<ResolvedQuantization> resolved = resolve_quantization(config);
    if (!resolved.ok()) continue;
    for (const auto& [group, scheme] : resolved->config_groups) {
      text +=
          fmt::format("    {}: {} on {}\n", group, scheme_summary(scheme), fmt::join(scheme.targets, ", "));
    }
    if (!resolved->ignore.empty()) text += fmt::format("    ignore: {}\n", fmt::join(resolved->ignore, ", "));
  }
  return text;
}

class Recipes final : public Verb {
 public:
  void add_flags(Flags& flags) override {
    flags.positionals("ACTION", words_, "list (the default), show NAME, or check FILE...", false);
    flags.values("--set", "KEY=VALUE", options_.recipe_args,
                 "check: replace a variable of the recipe's args");
    flags.value("--stage", "NAME", options_.stage, "check: only stages whose key starts with NAME");
    flags.toggle("--reference", options_.rules.strict, "check: accept only what llm-compressor accepts");
  }

  Status run(Program& program) override {
    const std::string action = words_.empty() ? "list" : words_[0];
    if (action == "list" && words_.size() <= 1) {
      const Json document = catalogue();
      return program.print(document, catalogue_text(document));
    }
    if (action == "show" && words_.size() == 2) return show(program, words_[1]);
    if (action == "check" && words_.size() >= 2) return check(program);
    const std::vector<std::string> actions{"list", "show", "check"};
    if (action == "show")
      return usage_error("show takes the name of one scheme, method or modifier",
                         "nibble recipes lists them");
    if (action == "check") return usage_error("check takes the files of recipes");
    return usage_error(fmt::format("recipes knows no action \"{}\"; it has {}", action, join_or(actions)),
                       did_you_mean(action, actions));
  }

 private:
  static Status show(Program& program, const std::string& name) {
    std::vector<std::string> names = preset_names();
    if (const auto scheme = preset_scheme(name)) {
      const RecipeValue value = scheme_to_value(*scheme);
      return program.print({{"kind", "scheme"}, {"name", name}, {"scheme", to_json(value)}},
                           write_yaml(value));
    }
    for (const MethodRow& row : method_table()) {
      names.push_back(row.name);
      if (row.name != name) continue;
      TRY_ASSIGN(const Recipe recipe,
                 recipe_of_shortcut({.scheme = "W4A16", .method = name, .ignore = {"lm_head"}}));
      TRY_ASSIGN(const std::string yaml, recipe_to_yaml(recipe));
      return program.print(
          {{"kind", "method"}, {"name", name}, {"summary", row.summary}, {"recipe", yaml}},
          fmt::format("# --scheme W4A16 --method {} --ignore lm_head: {}\n{}", name, row.summary, yaml));
    }
    for (const ModifierRow& row : modifier_table()) {
      names.push_back(row.class_name);
      if (row.class_name == name) return program.print(modifier_document(row), modifier_text(row));
    }
    return usage_error(fmt::format("there is no scheme, method or modifier \"{}\"", name),
                       did_you_mean(name, names));
  }

  Status check(Program& program) {
    Json documents = Json::array();
    std::string text;
    for (std::size_t i = 1; i < words_.size(); ++i) {
      TRY_ASSIGN(
          const Recipe recipe,
          load_recipe(words_[i], options_)
              .at(words_[i].find('\n') == std::string::npos ? "recipe " + words_[i] : std::string("recipe")));
      TRY_ASSIGN(Json document, recipe_to_json(recipe));
      document["warnings"] = recipe.warnings;
      for (const std::string& warning : recipe.warnings) program.context().events.warning(warning);
      documents.push_back(std::move(document));
      text += recipe_text(recipe, words_[i]);
    }
    return program.print(documents.size() == 1 ? documents[0] : documents, text);
  }

  std::vector<std::string> words_;
  RecipeOptions options_;
};

}  // namespace

VerbEntry recipes_verb() {
  return {.name = "recipes",
          .usage = "[list | show NAME | check FILE...] [flags]",
          .summary = "schemes, methods and modifiers; and what a recipe file means",
          .detail = "docs/recipes.md has the grammar.",
          .examples = {"", "show W4A16", "show GPTQModifier", "check recipe.yaml"},
          .make = []() -> std::unique_ptr<Verb> { return std::make_unique<Recipes>(); }};
}

}  // namespace nibble::app
