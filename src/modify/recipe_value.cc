// SPDX-License-Identifier: Apache-2.0
#include "modify/recipe_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/check.h"
#include "base/json.h"

namespace nibble {

RecipeValue RecipeValue::text_list(const std::vector<std::string>& texts) {
  List list;
  for (const std::string& text : texts) list.emplace_back(text);
  return list;
}

const RecipeValue* RecipeValue::find(std::string_view key) const {
  const Map* map = if_map();
  if (!map) return nullptr;
  for (const Entry& entry : *map) {
    if (entry.first == key) return &entry.second;
  }
  return nullptr;
}

RecipeValue* RecipeValue::find(std::string_view key) {
  return const_cast<RecipeValue*>(std::as_const(*this).find(key));
}

void RecipeValue::set(std::string_view key, RecipeValue value) {
  Map* map = if_map();
  CHECK(map != nullptr, "set() of a value that is no map");
  if (RecipeValue* existing = find(key)) {
    *existing = std::move(value);
  } else {
    map->emplace_back(std::string(key), std::move(value));
  }
}

std::vector<std::string> RecipeValue::texts() const {
  std::vector<std::string> out;
  if (const std::string* text = if_text()) out.push_back(*text);
  if (const List* list = if_list()) {
    for (const RecipeValue& item : *list) {
      if (const std::string* text = item.if_text()) out.push_back(*text);
    }
  }
  return out;
}

std::string RecipeValue::describe() const {
  if (is_null()) return "null";
  if (const bool* value = if_bool()) return *value ? "true" : "false";
  if (if_int() || if_float()) return to_text();
  if (const std::string* text = if_text()) {
    return text->size() <= 80 ? fmt::format("\"{}\"", *text)
                              : fmt::format("a text of {} bytes", text->size());
  }
  if (const List* list = if_list())
    return list->size() <= 4 ? to_text() : fmt::format("a list of {}", list->size());
  return fmt::format("a map of {}", if_map()->size());
}

std::string RecipeValue::to_text() const {
  if (is_null()) return "null";
  if (const bool* value = if_bool()) return *value ? "true" : "false";
  if (const std::int64_t* value = if_int()) return std::to_string(*value);
  if (const double* value = if_float()) return yaml_float_text(*value);
  if (const std::string* value = if_text()) return *value;
  std::string out;
  if (const List* list = if_list()) {
    for (const RecipeValue& item : *list) out += (out.empty() ? "" : ", ") + item.to_text();
    return "[" + out + "]";
  }
  for (const auto& [key, item] : *if_map()) out += (out.empty() ? "" : ", ") + key + ": " + item.to_text();
  return "{" + out + "}";
}

Json to_json(const RecipeValue& value) {
  if (value.is_null()) return nullptr;
  if (const bool* v = value.if_bool()) return *v;
  if (const std::int64_t* v = value.if_int()) return *v;
  if (const double* v = value.if_float()) return *v;
  if (const std::string* v = value.if_text()) return *v;
  if (const RecipeValue::List* list = value.if_list()) {
    Json out = Json::array();
    for (const RecipeValue& item : *list) out.push_back(to_json(item));
    return out;
  }
  Json out = Json::object();
  for (const auto& [key, item] : *value.if_map()) out[key] = to_json(item);
  return out;
}

RecipeValue recipe_value_from_json(const Json& json) {
  switch (json.type()) {
    case Json::value_t::boolean:
      return json.get<bool>();
    case Json::value_t::number_integer:
      return json.get<std::int64_t>();
    case Json::value_t::number_unsigned: {
      const auto value = json.get<std::uint64_t>();
      if (value > static_cast<std::uint64_t>(INT64_MAX)) return static_cast<double>(value);
      return static_cast<std::int64_t>(value);
    }
    case Json::value_t::number_float:
      return json.get<double>();
    case Json::value_t::string:
      return json.get<std::string>();
    case Json::value_t::array: {
      RecipeValue::List list;
      for (const Json& item : json) list.push_back(recipe_value_from_json(item));
      return list;
    }
    case Json::value_t::object: {
      RecipeValue::Map map;
      for (const auto& [key, item] : json.items()) map.emplace_back(key, recipe_value_from_json(item));
      return map;
    }
    default:
      return {};
  }
}

std::string yaml_float_text(double value) {
  if (std::isnan(value)) return ".nan";
  if (std::isinf(value)) return value < 0 ? "-.inf" : ".inf";
  const double magnitude = std::fabs(value);
  const bool plain = magnitude == 0 || (magnitude >= 1e-4 && magnitude < 1e16);
  char buffer[64];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value,
                                    plain ? std::chars_format::fixed : std::chars_format::scientific);
  std::string text(buffer, result.ptr);
  if (text.find('.') == std::string::npos) text.insert(std::min(text.find('e'), text.size()), ".0");
  return text;
}

}  // namespace nibble
