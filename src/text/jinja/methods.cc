// SPDX-License-Identifier: Apache-2.0
// Methods of strings, lists and dictionaries. Those that would change the value are refused: transformers
// renders in an immutable sandbox.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "text/jinja/builtins.h"
#include "text/jinja/renderer.h"
#include "text/jinja/strings.h"

namespace nibble::jinja {
namespace {

using Method = Result<Value> (*)(Renderer& renderer, const Value& self, const Arguments& arguments);

const std::string& text_of(const Value& self) {
  return *self.as_string();
}

// An optional string argument that may be None.
Result<std::optional<std::string>> optional_text(const char* what, const Value* value) {
  if (value == nullptr || value->is_none()) return std::optional<std::string>();
  TRY_ASSIGN(std::string text, text_argument(what, *value));
  return std::optional<std::string>(std::move(text));
}

Result<std::int64_t> optional_integer(const char* what, const Value* value, std::int64_t otherwise) {
  if (value == nullptr || value->is_none()) return otherwise;
  return integer_argument(what, *value);
}

template <Side side>
Result<Value> strip_method(Renderer&, const Value& self, const Arguments& arguments) {
  TRY_ASSIGN(const std::optional<std::string> set, optional_text("strip", arguments.find(0, "chars")));
  return Value(strip(text_of(self), set ? std::optional<std::string_view>(*set) : std::nullopt, side));
}

template <auto split_function>
Result<Value> split_method(Renderer& renderer, const Value& self, const Arguments& arguments) {
  TRY_ASSIGN(const std::optional<std::string> separator, optional_text("split", arguments.find(0, "sep")));
  TRY_ASSIGN(const std::int64_t most, optional_integer("split", arguments.find(1, "maxsplit"), -1));
  if (separator && separator->empty()) return bad_data("split: the separator is empty");
  List list;
  for (std::string& part : split_function(
           text_of(self), separator ? std::optional<std::string_view>(*separator) : std::nullopt, most)) {
    list.items.emplace_back(std::move(part));
  }
  TRY(renderer.spend(static_cast<std::int64_t>(list.items.size())));
  return Value(std::move(list));
}

Result<Value> splitlines_method(Renderer&, const Value& self, const Arguments& arguments) {
  const Value* keep = arguments.find(0, "keepends");
  List list;
  for (std::string& line : split_lines(text_of(self), keep != nullptr && truthy(*keep)))
    list.items.emplace_back(std::move(line));
  return Value(std::move(list));
}

// startswith and endswith take one string or a tuple of them.
template <bool at_start>
Result<Value> affix_method(Renderer&, const Value& self, const Arguments& arguments) {
  const Value* wanted = arguments.find(0, "prefix");
  if (wanted == nullptr) return bad_data("startswith and endswith need a string");
  const std::vector<Value> single{*wanted};
  const std::vector<Value>& candidates = wanted->as_list() != nullptr ? wanted->as_list()->items : single;
  TRY_ASSIGN(const std::int64_t start, optional_integer("startswith", arguments.find(1, "start"), 0));
  Value rest = self;
  if (start != 0) {
    TRY_ASSIGN(rest, get_slice(self, Value(start), Value(), Value()));
  }
  for (const Value& candidate : candidates) {
    TRY_ASSIGN(const std::string affix, text_argument("startswith", candidate));
    if (at_start ? text_of(rest).starts_with(affix) : text_of(rest).ends_with(affix)) return Value(true);
  }
  return Value(false);
}

Result<Value> replace_method(Renderer& renderer, const Value& self, const Arguments& arguments) {
  if (arguments.positional.size() < 2) return bad_data("replace needs two strings");
  TRY_ASSIGN(const std::string from, text_argument("replace", arguments.positional[0]));
  TRY_ASSIGN(const std::string to, text_argument("replace", arguments.positional[1]));
  TRY_ASSIGN(const std::int64_t most, optional_integer("replace", arguments.find(2, "count"), -1));
  TRY(renderer.check_size((text_of(self).size() + 1) *
                          (from.empty() ? to.size() + 1 : to.size() / from.size() + 1)));
  return Value(replace(text_of(self), from, to, most));
}

template <std::string (*change)(std::string_view)>
Result<Value> changed_method(Renderer&, const Value& self, const Arguments&) {
  return Value(change(text_of(self)));
}

template <CharClass wanted>
Result<Value> class_method(Renderer&, const Value& self, const Arguments&) {
  return Value(all_of_class(text_of(self), wanted));
}

// Positions count characters; -1 when absent.
std::int64_t position_of(const std::string& text, const std::string& wanted, bool last) {
  const std::size_t at = last ? text.rfind(wanted) : text.find(wanted);
  if (at == std::string::npos) return -1;
  return static_cast<std::int64_t>(characters(std::string_view(text).substr(0, at)).size());
}

template <bool last, bool must_exist>
Result<Value> find_method(Renderer&, const Value& self, const Arguments& arguments) {
  if (arguments.positional.size() != 1) return bad_data("find needs one string");
  TRY_ASSIGN(const std::string wanted, text_argument("find", arguments.positional[0]));
  const std::int64_t position = position_of(text_of(self), wanted, last);
  if (must_exist && position < 0) return bad_data(fmt::format("index: \"{}\" is not in the string", wanted));
  return Value(position);
}

Result<Value> count_method(Renderer&, const Value& self, const Arguments& arguments) {
  if (arguments.positional.size() != 1) return bad_data("count needs one value");
  if (const List* list = self.as_list()) {
    const auto same = [&](const Value& item) { return equal(item, arguments.positional[0]); };
    return Value(static_cast<std::int64_t>(std::count_if(list->items.begin(), list->items.end(), same)));
  }
  TRY_ASSIGN(const std::string wanted, text_argument("count", arguments.positional[0]));
  if (wanted.empty()) return Value(static_cast<std::int64_t>(characters(text_of(self)).size()) + 1);
  return Value(static_cast<std::int64_t>(split(text_of(self), std::string_view(wanted), -1).size()) - 1);
}

Result<Value> join_method(Renderer& renderer, const Value& self, const Arguments& arguments) {
  if (arguments.positional.size() != 1) return bad_data("join needs one list");
  TRY_ASSIGN(const std::vector<Value> items, elements(arguments.positional[0]));
  std::string out;
  for (std::size_t i = 0; i < items.size(); ++i) {
    TRY_ASSIGN(const std::string item, text_argument("join", items[i]));
    if (i > 0) out += text_of(self);
    out += item;
    TRY(renderer.check_size(out.size()));
  }
  return Value(std::move(out));
}

template <bool prefix>
Result<Value> remove_affix_method(Renderer&, const Value& self, const Arguments& arguments) {
  if (arguments.positional.size() != 1) return bad_data("removeprefix and removesuffix need one string");
  TRY_ASSIGN(const std::string affix, text_argument("removeprefix", arguments.positional[0]));
  const std::string& text = text_of(self);
  if (prefix && text.starts_with(affix)) return Value(text.substr(affix.size()));
  if (!prefix && text.ends_with(affix)) return Value(text.substr(0, text.size() - affix.size()));
  return self;
}

// "{} and {name}".format(...): fields without conversion or width.
Result<Value> format_method(Renderer&, const Value& self, const Arguments& arguments) {
  const std::string& text = text_of(self);
  std::string out;
  std::size_t next = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool doubled = i + 1 < text.size() && text[i + 1] == text[i];
    if ((text[i] == '{' || text[i] == '}') && doubled) {
      out += text[i++];
    } else if (text[i] == '{') {
      const std::size_t end = text.find('}', i);
      if (end == std::string::npos) return bad_data("format: a { is not closed");
      std::string field = text.substr(i + 1, end - i - 1);
      if (field.empty()) field = fmt::to_string(next++);
      const bool number =
          std::all_of(field.begin(), field.end(), [](char c) { return c >= '0' && c <= '9'; });
      const Value* value = arguments.find(
          number && field.size() < 6 ? static_cast<std::size_t>(std::stoi(field)) : SIZE_MAX, field);
      if (value == nullptr) return bad_data(fmt::format("format: there is no value for {{{}}}", field));
      out += to_text(*value);
      i = end;
    } else {
      out += text[i];
    }
  }
  return Value(std::move(out));
}

Result<Value> dict_get(Renderer&, const Value& self, const Arguments& arguments) {
  const Value* key = arguments.find(0, "key");
  if (key == nullptr) return bad_data("get needs a key");
  if (const Value* value = find_key(*self.as_dict(), *key)) return *value;
  const Value* otherwise = arguments.find(1, "default");
  return otherwise == nullptr ? Value() : *otherwise;
}

enum class Part { kKeys, kValues, kItems };
template <Part part>
Result<Value> dict_part(Renderer&, const Value& self, const Arguments&) {
  List list;
  for (const auto& [key, value] : self.as_dict()->pairs) {
    if (part == Part::kItems) {
      list.items.emplace_back(List{.items = {key, value}, .is_tuple = true});
    } else {
      list.items.push_back(part == Part::kKeys ? key : value);
    }
  }
  return Value(std::move(list));
}

Result<Value> list_index(Renderer&, const Value& self, const Arguments& arguments) {
  if (arguments.positional.size() != 1) return bad_data("index needs one value");
  const std::vector<Value>& items = self.as_list()->items;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (equal(items[i], arguments.positional[0])) return Value(static_cast<std::int64_t>(i));
  }
  return bad_data(fmt::format("index: {} is not in the list", to_repr(arguments.positional[0])));
}

Result<Value> copy_method(Renderer&, const Value& self, const Arguments&) {
  return self;
}

Result<Value> refuse_change(Renderer&, const Value& self, const Arguments&) {
  return bad_data(fmt::format("a template may not change a {}", self.type_name()),
                  "build a new one: list + [item]");
}

struct MethodEntry {
  std::string_view name;
  Method method;
};

constexpr MethodEntry kStringMethods[] = {
    {"strip", strip_method<Side::kBoth>},
    {"lstrip", strip_method<Side::kLeft>},
    {"rstrip", strip_method<Side::kRight>},
    {"split", split_method<split>},
    {"rsplit", split_method<split_right>},
    {"splitlines", splitlines_method},
    {"startswith", affix_method<true>},
    {"endswith", affix_method<false>},
    {"replace", replace_method},
    {"upper", changed_method<upper>},
    {"lower", changed_method<lower>},
    {"title", changed_method<title>},
    {"capitalize", changed_method<capitalize>},
    {"isdigit", class_method<CharClass::kDigit>},
    {"isnumeric", class_method<CharClass::kDigit>},
    {"isalpha", class_method<CharClass::kAlpha>},
    {"isalnum", class_method<CharClass::kAlnum>},
    {"isspace", class_method<CharClass::kSpace>},
    {"isupper", class_method<CharClass::kUpper>},
    {"islower", class_method<CharClass::kLower>},
    {"find", find_method<false, false>},
    {"rfind", find_method<true, false>},
    {"index", find_method<false, true>},
    {"rindex", find_method<true, true>},
    {"count", count_method},
    {"join", join_method},
    {"removeprefix", remove_affix_method<true>},
    {"removesuffix", remove_affix_method<false>},
    {"format", format_method},
};
constexpr MethodEntry kDictMethods[] = {
    {"get", dict_get},
    {"keys", dict_part<Part::kKeys>},
    {"values", dict_part<Part::kValues>},
    {"items", dict_part<Part::kItems>},
    {"copy", copy_method},
    {"update", refuse_change},
    {"pop", refuse_change},
    {"setdefault", refuse_change},
    {"clear", refuse_change},
};
constexpr MethodEntry kListMethods[] = {
    {"index", list_index},      {"count", count_method},   {"copy", copy_method},
    {"append", refuse_change},  {"extend", refuse_change}, {"insert", refuse_change},
    {"pop", refuse_change},     {"remove", refuse_change}, {"sort", refuse_change},
    {"reverse", refuse_change}, {"clear", refuse_change},
};

}  // namespace

Value bound_method(const Value& self, const std::string& name) {
  const auto bind = [&](const auto& table) {
    for (const MethodEntry& entry : table) {
      if (entry.name != name) continue;
      const Method method = entry.method;
      return Value::callable(
          {name, [self, method](Renderer& renderer, const Arguments& arguments) -> Result<Value> {
             TRY(renderer.spend_on(self));
             return method(renderer, self, arguments);
           }});
    }
    return Value::undefined(name);
  };
  if (self.as_string() != nullptr) return bind(kStringMethods);
  if (self.as_dict() != nullptr) return bind(kDictMethods);
  if (self.as_list() != nullptr) return bind(kListMethods);
  return Value::undefined(name);
}

}  // namespace nibble::jinja
