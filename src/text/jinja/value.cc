// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/json.h"

namespace nibble::jinja {
namespace {

// Python's repr of a float: the shortest text that reads back, always with a point or an exponent.
std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string python_quoted(std::string_view text) {
  const bool single = text.find('\'') == std::string_view::npos || text.find('"') != std::string_view::npos;
  const char quote = single ? '\'' : '"';
  std::string out(1, quote);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\\' || c == quote) {
      out += {'\\', c};
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out + quote;
}

std::string joined_reprs(const std::vector<Value>& items) {
  std::string out;
  for (const Value& item : items) out += (out.empty() ? "" : ", ") + to_repr(item);
  return out;
}

}  // namespace

const Value* Arguments::find(std::size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
}

Value Value::from_json(const Json& json) {
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
      List list;
      for (const Json& item : json) list.items.push_back(from_json(item));
      return list;
    }
    case Json::value_t::object: {
      Dict dict;
      for (const auto& [key, value] : json.items()) dict.pairs.emplace_back(key, from_json(value));
      return dict;
    }
    default:
      return {};
  }
}

bool Value::number(double& out) const {
  if (const double* value = as_float()) return out = *value, true;
  std::int64_t whole = 0;
  if (!integer(whole)) return false;
  out = static_cast<double>(whole);
  return true;
}

bool Value::integer(std::int64_t& out) const {
  if (const std::int64_t* value = as_int()) return out = *value, true;
  if (const bool* value = as_bool()) return out = *value ? 1 : 0, true;
  return false;
}

const char* Value::type_name() const {
  constexpr const char* kNames[] = {"Undefined", "NoneType", "bool", "int",       "float",
                                    "str",       "list",     "dict", "Namespace", "function"};
  if (as_list() != nullptr && as_list()->is_tuple) return "tuple";
  return kNames[data_.index()];
}

bool truthy(const Value& value) {
  if (value.is_undefined() || value.is_none()) return false;
  double number = 0;
  if (value.number(number)) return number != 0;
  if (const std::string* text = value.as_string()) return !text->empty();
  if (const List* list = value.as_list()) return !list->items.empty();
  if (const Dict* dict = value.as_dict()) return !dict->pairs.empty();
  return true;
}

bool equal(const Value& a, const Value& b) {
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
  if (a.as_int() != nullptr && b.as_int() != nullptr) return *a.as_int() == *b.as_int();
  double x = 0;
  double y = 0;
  if (a.number(x) && b.number(y)) return x == y;
  if (a.as_string() != nullptr && b.as_string() != nullptr) return *a.as_string() == *b.as_string();
  const List* list_a = a.as_list();
  const List* list_b = b.as_list();
  if (list_a != nullptr && list_b != nullptr) {
    return list_a->is_tuple == list_b->is_tuple &&
           std::equal(list_a->items.begin(), list_a->items.end(), list_b->items.begin(), list_b->items.end(),
                      equal);
  }
  const Dict* dict_a = a.as_dict();
  const Dict* dict_b = b.as_dict();
  if (dict_a != nullptr && dict_b != nullptr) {
    return dict_a->pairs.size() == dict_b->pairs.size() &&
           std::all_of(dict_a->pairs.begin(), dict_a->pairs.end(), [&](const auto& pair) {
             const Value* other = find_key(*dict_b, pair.first);
             return other != nullptr && equal(pair.second, *other);
           });
  }
  if (a.as_namespace() != nullptr) return a.as_namespace() == b.as_namespace();
  return a.as_callable() != nullptr && a.as_callable() == b.as_callable();
}

Result<int> compare(const Value& a, const Value& b) {
  const auto order = [](const auto& x, const auto& y) { return x < y ? -1 : (y < x ? 1 : 0); };
  if (a.as_int() != nullptr && b.as_int() != nullptr) return order(*a.as_int(), *b.as_int());
  double x = 0;
  double y = 0;
  if (a.number(x) && b.number(y)) return order(x, y);
  // Bytes of UTF-8 sort as code points do.
  if (a.as_string() != nullptr && b.as_string() != nullptr) return order(*a.as_string(), *b.as_string());
  const List* list_a = a.as_list();
  const List* list_b = b.as_list();
  if (list_a != nullptr && list_b != nullptr && list_a->is_tuple == list_b->is_tuple) {
    const std::size_t shared = std::min(list_a->items.size(), list_b->items.size());
    for (std::size_t i = 0; i < shared; ++i) {
      if (!equal(list_a->items[i], list_b->items[i])) return compare(list_a->items[i], list_b->items[i]);
    }
    return order(list_a->items.size(), list_b->items.size());
  }
  return bad_data(fmt::format("a {} cannot be compared with a {}", a.type_name(), b.type_name()));
}

Result<bool> contains(const Value& container, const Value& item) {
  if (const std::string* text = container.as_string()) {
    if (item.as_string() == nullptr) {
      return bad_data(fmt::format("\"in\" a string needs a string, not a {}", item.type_name()));
    }
    return text->find(*item.as_string()) != std::string::npos;
  }
  if (const Dict* dict = container.as_dict()) return find_key(*dict, item) != nullptr;
  TRY_ASSIGN(const std::vector<Value> items, elements(container));
  return std::any_of(items.begin(), items.end(),
                     [&](const Value& candidate) { return equal(candidate, item); });
}

std::string to_text(const Value& value) {
  if (value.is_undefined()) return {};
  if (const std::string* text = value.as_string()) return *text;
  return to_repr(value);
}

std::string to_repr(const Value& value) {
  if (value.is_undefined()) return "Undefined";
  if (value.is_none()) return "None";
  if (const bool* flag = value.as_bool()) return *flag ? "True" : "False";
  if (const std::int64_t* number = value.as_int()) return fmt::to_string(*number);
  if (const double* number = value.as_float()) return float_text(*number);
  if (const std::string* text = value.as_string()) return python_quoted(*text);
  if (const List* list = value.as_list()) {
    if (!list->is_tuple) return "[" + joined_reprs(list->items) + "]";
    return "(" + joined_reprs(list->items) + (list->items.size() == 1 ? ",)" : ")");
  }
  if (const Dict* dict = value.as_dict()) {
    std::string out;
    for (const auto& [key, item] : dict->pairs) {
      out += (out.empty() ? "" : ", ") + to_repr(key) + ": " + to_repr(item);
    }
    return "{" + out + "}";
  }
  if (value.as_callable() != nullptr) return "<function " + value.as_callable()->name + ">";
  return "<Namespace>";
}

std::string to_markup(const Value& value) {
  if (value.is_markup()) return *value.as_string();
  constexpr std::string_view kSpecial = "&<>\"'";
  constexpr const char* kEscaped[] = {"&amp;", "&lt;", "&gt;", "&#34;", "&#39;"};
  std::string out;
  for (const char c : to_text(value)) {
    const std::size_t which = kSpecial.find(c);
    if (which == std::string_view::npos) {
      out += c;
    } else {
      out += kEscaped[which];
    }
  }
  return out;
}

Result<std::vector<Value>> elements(const Value& value) {
  if (value.is_undefined()) return std::vector<Value>();
  if (const List* list = value.as_list()) return list->items;
  std::vector<Value> items;
  if (const Dict* dict = value.as_dict()) {
    for (const auto& pair : dict->pairs) items.push_back(pair.first);
    return items;
  }
  if (const std::string* text = value.as_string()) {
    for (const std::string_view character : characters(*text)) items.emplace_back(std::string(character));
    return items;
  }
  return bad_data(fmt::format("a {} cannot be iterated over", value.type_name()));
}

const Value* find_key(const Dict& dict, const Value& key) {
  for (const auto& [candidate, value] : dict.pairs) {
    if (equal(candidate, key)) return &value;
  }
  return nullptr;
}

void set_key(Dict& dict, const Value& key, Value value) {
  for (auto& [candidate, old] : dict.pairs) {
    if (equal(candidate, key)) {
      old = std::move(value);
      return;
    }
  }
  dict.pairs.emplace_back(key, std::move(value));
}

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> out;
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    std::size_t length = lead < 0xc2 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 1;
    for (std::size_t k = 1; k < length; ++k) {
      if (i + k >= text.size() || (static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) length = 1;
    }
    out.push_back(text.substr(i, length));
    i += length;
  }
  return out;
}

}  // namespace nibble::jinja
