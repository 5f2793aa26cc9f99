// SPDX-License-Identifier: Apache-2.0
// What may follow "is", and the functions that every template can call.
#include <fmt/format.h>

#include <algorithm>

#include "base/suggest.h"
#include "text/jinja/builtins.h"
#include "text/jinja/renderer.h"
#include "text/jinja/strings.h"

namespace nibble::jinja {
namespace {

using Test = Result<bool> (*)(const Value& base, const Arguments& arguments);

Result<Value> only_argument(const Arguments& arguments) {
  if (arguments.positional.size() != 1) return bad_data("the test needs one argument");
  return arguments.positional[0];
}

template <int wanted_low, int wanted_high>
Result<bool> order_test(const Value& base, const Arguments& arguments) {
  TRY_ASSIGN(const Value other, only_argument(arguments));
  TRY_ASSIGN(const int order, compare(base, other));
  return order >= wanted_low && order <= wanted_high;
}

template <bool wanted>
Result<bool> equal_test(const Value& base, const Arguments& arguments) {
  TRY_ASSIGN(const Value other, only_argument(arguments));
  return equal(base, other) == wanted;
}

Result<bool> in_test(const Value& base, const Arguments& arguments) {
  TRY_ASSIGN(const Value container, only_argument(arguments));
  return contains(container, base);
}

template <std::int64_t remainder>
Result<bool> parity_test(const Value& base, const Arguments&) {
  TRY_ASSIGN(const std::int64_t number, integer_argument("odd and even", base));
  return (number % 2 != 0) == (remainder == 1);
}

Result<bool> divisible_test(const Value& base, const Arguments& arguments) {
  TRY_ASSIGN(const Value other, only_argument(arguments));
  TRY_ASSIGN(const std::int64_t number, integer_argument("divisibleby", base));
  TRY_ASSIGN(const std::int64_t divisor, integer_argument("divisibleby", other));
  if (divisor == 0) return bad_data("division by zero");
  return divisor == -1 || number % divisor == 0;
}

template <CharClass wanted>
Result<bool> case_test(const Value& base, const Arguments&) {
  return all_of_class(to_text(base), wanted);
}

bool is_sequence(const Value& v) {
  return v.as_list() != nullptr || v.as_string() != nullptr || v.as_dict() != nullptr || v.is_undefined();
}

struct TestEntry {
  const char* name;
  Test test;
};

const std::vector<TestEntry>& tests() {
  static const std::vector<TestEntry> table{
      {"defined", [](const Value& v, const Arguments&) -> Result<bool> { return !v.is_undefined(); }},
      {"undefined", [](const Value& v, const Arguments&) -> Result<bool> { return v.is_undefined(); }},
      {"none", [](const Value& v, const Arguments&) -> Result<bool> { return v.is_none(); }},
      {"string", [](const Value& v, const Arguments&) -> Result<bool> { return v.as_string() != nullptr; }},
      {"mapping", [](const Value& v, const Arguments&) -> Result<bool> { return v.as_dict() != nullptr; }},
      {"sequence", [](const Value& v, const Arguments&) -> Result<bool> { return is_sequence(v); }},
      {"iterable", [](const Value& v, const Arguments&) -> Result<bool> { return is_sequence(v); }},
      {"callable",
       [](const Value& v, const Arguments&) -> Result<bool> { return v.as_callable() != nullptr; }},
      {"boolean", [](const Value& v, const Arguments&) -> Result<bool> { return v.as_bool() != nullptr; }},
      {"true",
       [](const Value& v, const Arguments&) -> Result<bool> {
         return v.as_bool() != nullptr && *v.as_bool();
       }},
      {"false",
       [](const Value& v, const Arguments&) -> Result<bool> {
         return v.as_bool() != nullptr && !*v.as_bool();
       }},
      {"integer", [](const Value& v, const Arguments&) -> Result<bool> { return v.as_int() != nullptr; }},
      {"float", [](const Value& v, const Arguments&) -> Result<bool> { return v.as_float() != nullptr; }},
      {"number",
       [](const Value& v, const Arguments&) -> Result<bool> {
         double ignored = 0;
         return v.number(ignored);
       }},
      {"odd", parity_test<1>},
      {"even", parity_test<0>},
      {"divisibleby", divisible_test},
      {"in", in_test},
      {"eq", equal_test<true>},
      {"equalto", equal_test<true>},
      {"sameas", equal_test<true>},
      {"ne", equal_test<false>},
      {"lt", order_test<-1, -1>},
      {"lessthan", order_test<-1, -1>},
      {"le", order_test<-1, 0>},
      {"gt", order_test<1, 1>},
      {"greaterthan", order_test<1, 1>},
      {"ge", order_test<0, 1>},
      {"lower", case_test<CharClass::kLower>},
      {"upper", case_test<CharClass::kUpper>},
      // Symbols, for select and its kin.
      {"==", equal_test<true>},
      {"!=", equal_test<false>},
      {"<", order_test<-1, -1>},
      {"<=", order_test<-1, 0>},
      {">", order_test<1, 1>},
      {">=", order_test<0, 1>},
  };
  return table;
}

constexpr std::int64_t kMaxRange = 100'000;  // the sandbox of Jinja2 has the same

Result<Value> range_function(Renderer& renderer, const Arguments& arguments) {
  std::vector<std::int64_t> bounds;
  for (const Value& value : arguments.positional) {
    TRY_ASSIGN(bounds.emplace_back(), integer_argument("range", value));
  }
  if (bounds.empty() || bounds.size() > 3) return bad_data("range takes one to three whole numbers");
  const std::int64_t begin = bounds.size() > 1 ? bounds[0] : 0;
  const std::int64_t end = bounds.size() > 1 ? bounds[1] : bounds[0];
  const std::int64_t step = bounds.size() > 2 ? bounds[2] : 1;
  if (step == 0) return bad_data("range: the step is 0");
  List list;
  for (std::int64_t i = begin; step > 0 ? i < end : i > end;) {
    list.items.emplace_back(i);
    if (static_cast<std::int64_t>(list.items.size()) > kMaxRange) {
      return bad_data(fmt::format("range: more than {} numbers", kMaxRange));
    }
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  TRY(renderer.spend(static_cast<std::int64_t>(list.items.size())));
  return Value(std::move(list));
}

Result<Value> namespace_function(Renderer& renderer, const Arguments& arguments) {
  Namespace names{.names = {}, .open = true};
  for (const Value& value : arguments.positional) {
    if (value.as_dict() == nullptr) return bad_data("namespace takes names with values");
    for (const auto& [key, item] : value.as_dict()->pairs) names.names.emplace_back(to_text(key), item);
  }
  for (const auto& [name, value] : arguments.named) names.names.emplace_back(name, value);
  Value value = Value::name_space(std::move(names));
  renderer.adopt_namespace(value);
  return value;
}

Result<Value> dict_function(Renderer&, const Arguments& arguments) {
  Dict dict;
  for (const Value& value : arguments.positional) {
    if (value.as_dict() == nullptr) return bad_data("dict takes names with values");
    for (const auto& [key, item] : value.as_dict()->pairs) set_key(dict, key, item);
  }
  for (const auto& [name, value] : arguments.named) set_key(dict, Value(name), value);
  return Value(std::move(dict));
}

Result<Value> raise_function(Renderer&, const Arguments& arguments) {
  const Value* text = arguments.find(0, "message");
  return bad_data(text == nullptr
                      ? "the chat template refuses the conversation"
                      : fmt::format("the chat template refuses the conversation: {}", to_text(*text)));
}

}  // namespace

Status check_test_name(const std::string& name) {
  std::vector<std::string> names;
  for (const TestEntry& entry : tests()) {
    if (entry.name == name) return {};
    names.emplace_back(entry.name);
  }
  return bad_data(fmt::format("there is no test \"is {}\"", name), did_you_mean(name, names));
}

Result<bool> apply_test(const std::string& name, const Value& base, const Arguments& arguments) {
  TRY(check_test_name(name));
  const auto entry =
      std::find_if(tests().begin(), tests().end(), [&](const TestEntry& e) { return e.name == name; });
  return entry->test(base, arguments).at("test " + name);
}

std::vector<std::pair<std::string, Value>> global_functions() {
  return {{"range", Value::callable({"range", range_function})},
          {"namespace", Value::callable({"namespace", namespace_function})},
          {"dict", Value::callable({"dict", dict_function})},
          {"raise_exception", Value::callable({"raise_exception", raise_function})}};
}

Result<std::string> text_argument(const char* what, const Value& value) {
  if (value.as_string() != nullptr) return *value.as_string();
  return bad_data(fmt::format("{} needs a string, not a {}", what, value.type_name()));
}

Result<std::int64_t> integer_argument(const char* what, const Value& value) {
  std::int64_t number = 0;
  if (value.integer(number)) return number;
  return bad_data(fmt::format("{} needs a whole number, not a {}", what, value.type_name()));
}

}  // namespace nibble::jinja
