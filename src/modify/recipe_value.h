// SPDX-License-Identifier: Apache-2.0
// A value inside a recipe: null, bool, integer, float, text, list or map (in file order), with the line it
// came from. YAML and JSON are read into it, modifiers take their arguments from it, and recipe.yaml is
// written from it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/json_fwd.h"

namespace nibble {

class RecipeValue {
 public:
  using List = std::vector<RecipeValue>;
  using Entry = std::pair<std::string, RecipeValue>;
  using Map = std::vector<Entry>;

  RecipeValue() = default;
  RecipeValue(bool value) : data_(value) {}                      // NOLINT: implicit by design
  RecipeValue(int value) : data_(std::int64_t{value}) {}         // NOLINT
  RecipeValue(std::int64_t value) : data_(value) {}              // NOLINT
  RecipeValue(double value) : data_(value) {}                    // NOLINT
  RecipeValue(const char* value) : data_(std::string(value)) {}  // NOLINT
  RecipeValue(std::string value) : data_(std::move(value)) {}    // NOLINT
  RecipeValue(List value) : data_(std::move(value)) {}           // NOLINT
  RecipeValue(Map value) : data_(std::move(value)) {}            // NOLINT
  static RecipeValue text_list(const std::vector<std::string>& texts);

  bool is_null() const { return std::holds_alternative<std::monostate>(data_); }
  const bool* if_bool() const { return std::get_if<bool>(&data_); }
  const std::int64_t* if_int() const { return std::get_if<std::int64_t>(&data_); }
  const double* if_float() const { return std::get_if<double>(&data_); }
  const std::string* if_text() const { return std::get_if<std::string>(&data_); }
  const List* if_list() const { return std::get_if<List>(&data_); }
  const Map* if_map() const { return std::get_if<Map>(&data_); }
  List* if_list() { return std::get_if<List>(&data_); }
  Map* if_map() { return std::get_if<Map>(&data_); }
  bool is_scalar() const { return !if_list() && !if_map(); }

  // The value of a map's key; null when this is no map or the key is absent.
  const RecipeValue* find(std::string_view key) const;
  RecipeValue* find(std::string_view key);
  // Sets a key of a map (this must be one), keeping its place when it exists.
  void set(std::string_view key, RecipeValue value);

  // The texts of a text or of a list of texts.
  std::vector<std::string> texts() const;

  // "a list of 2", "the text \"W4A17\"": how an error message shows it.
  std::string describe() const;
  // Text of a scalar as one would type it; lists and maps in flow form.
  std::string to_text() const;

  bool operator==(const RecipeValue& other) const { return data_ == other.data_; }

  int line = 0;  // 1-based in the source text; 0 when it has none

 private:
  std::variant<std::monostate, bool, std::int64_t, double, std::string, List, Map> data_;
};

Json to_json(const RecipeValue& value);
RecipeValue recipe_value_from_json(const Json& json);
// Shortest decimal that reads back to the same double, as YAML 1.1 needs it: 0.01, 1.0, 1.0e-05.
std::string yaml_float_text(double value);

}  // namespace nibble
