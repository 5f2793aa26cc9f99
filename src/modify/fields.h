// SPDX-License-Identifier: Apache-2.0
// Recipe arguments as data: a row per field with its kinds, default and allowed values, and one function that
// turns what a recipe says into a complete, typed set of arguments. docs/recipes.md is made from the same
// rows.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "modify/recipe_value.h"

namespace nibble {

// Kinds of value a field takes; rows combine them with |.
enum FieldKind : unsigned {
  kNullKind = 1,
  kBoolKind = 2,
  kIntKind = 4,
  kFloatKind = 8,
  kTextKind = 16,
  kTextListKind = 32,
  kFloatListKind = 64,
  kListKind = 128,  // of anything; the row's normalise() says what
  kMapKind = 256,
};

enum class FieldUse {
  kNormal,
  kInput,     // accepted, not written to recipe.yaml
  kAlias,     // another name of the field `alias_of`
  kLeftover,  // accepted and ignored with a note: older releases of the reference had it
  kOwn,       // ours alone: refused under strict rules, written to recipe.yaml where a recipe sets it
};

struct FieldRow {
  std::string name = {};
  unsigned kinds = 0;
  RecipeValue initial = {};  // the default; null for a required field
  std::string help = {};
  bool required = false;
  std::vector<std::string> allowed = {};  // texts it may hold; empty: any
  std::optional<double> least = {};       // bounds of numbers, and of the numbers in a list
  std::optional<double> most = {};
  FieldUse use = FieldUse::kNormal;
  std::string alias_of = {};
  // Canonical form of a value of the right kind, or what is wrong with it.
  Result<RecipeValue> (*normalise)(const RecipeValue& value) = nullptr;
};

// How recipes are read. `strict` keeps to what the reference itself accepts: no variables, no old forms, no
// leftovers, no Python tags.
struct RecipeRules {
  bool strict = false;
};

struct Arguments {
  RecipeValue values = RecipeValue::Map{};  // every normal, input and own field, in the order of the rows
  std::set<std::string> given;              // fields that the recipe sets

  const RecipeValue& at(std::string_view name) const;
  std::string text(std::string_view name) const;  // empty when null
  std::int64_t integer(std::string_view name) const;
  double number(std::string_view name) const;
  bool flag(std::string_view name) const;
  std::vector<std::string> texts(std::string_view name) const;
};

// Checks `body` (a map, or null for none) against the rows. Errors name the field and the nearest valid name;
// `warnings` gets a line for each leftover.
Result<Arguments> read_arguments(const std::vector<FieldRow>& rows, const RecipeValue& body,
                                 const RecipeRules& rules, std::vector<std::string>& warnings);

// "float or null": the kinds of a row for messages and documentation.
std::string describe_kinds(const FieldRow& row);

}  // namespace nibble
