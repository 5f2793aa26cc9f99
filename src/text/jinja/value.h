// SPDX-License-Identifier: Apache-2.0
// Values of the template language, with Python's meaning: what chat templates compare, index, join and print.
// Lists and dictionaries are never changed in place (transformers renders in an immutable sandbox);
// namespaces are.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/json_fwd.h"

namespace nibble::jinja {

class Value;
class Renderer;

struct Undefined {
  std::string name{};  // what was not there, for messages
};
struct None {};
struct List;
struct Dict;
struct Namespace;
struct Callable;

class Value {
 public:
  Value() : data_(None{}) {}
  Value(bool value) : data_(value) {}               // NOLINT: implicit by design
  Value(std::int64_t value) : data_(value) {}       // NOLINT
  Value(int value) : data_(std::int64_t{value}) {}  // NOLINT
  Value(double value) : data_(value) {}             // NOLINT
  Value(std::string text) : data_(std::make_shared<const std::string>(std::move(text))) {}  // NOLINT
  Value(const char* text) : Value(std::string(text)) {}                                     // NOLINT
  Value(List list);                                                                         // NOLINT
  Value(Dict dict);                                                                         // NOLINT
  // What the filters `safe` and `escape` give: HTML that is not escaped again, and that escapes what it is
  // joined with.
  static Value markup(std::string text) {
    Value value(std::move(text));
    value.is_markup_ = true;
    return value;
  }
  static Value undefined(std::string name) { return Value(Data(Undefined{std::move(name)})); }
  static Value name_space(Namespace names);
  static Value callable(Callable callable);
  static Value from_json(const Json& json);

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  const bool* as_bool() const { return std::get_if<bool>(&data_); }
  const std::int64_t* as_int() const { return std::get_if<std::int64_t>(&data_); }
  const double* as_float() const { return std::get_if<double>(&data_); }
  const std::string* as_string() const { return pointer<const std::string>(); }
  const List* as_list() const { return pointer<const List>(); }
  const Dict* as_dict() const { return pointer<const Dict>(); }
  Namespace* as_namespace() const { return pointer<Namespace>(); }
  const Callable* as_callable() const { return pointer<const Callable>(); }
  bool is_markup() const { return is_markup_; }
  const Undefined& undefined_name() const { return std::get<Undefined>(data_); }

  // bool, int or float as a number; false for anything else.
  bool number(double& out) const;
  // bool or int.
  bool integer(std::int64_t& out) const;
  const char* type_name() const;  // Python's: "str", "NoneType"

 private:
  using Data = std::variant<Undefined, None, bool, std::int64_t, double, std::shared_ptr<const std::string>,
                            std::shared_ptr<const List>, std::shared_ptr<const Dict>,
                            std::shared_ptr<Namespace>, std::shared_ptr<const Callable>>;
  explicit Value(Data data) : data_(std::move(data)) {}
  template <class T>
  T* pointer() const {
    const auto* held = std::get_if<std::shared_ptr<T>>(&data_);
    return held == nullptr ? nullptr : held->get();
  }

  Data data_;
  bool is_markup_ = false;
};

struct List {
  std::vector<Value> items{};
  bool is_tuple = false;
};
using Pairs = std::vector<std::pair<Value, Value>>;  // insertion order, unique keys
struct Dict {
  Pairs pairs{};
};
// namespace(...) and the loop variable: attributes only.
struct Namespace {
  std::vector<std::pair<std::string, Value>> names{};
  bool open = false;  // may a template set its attributes?
};
struct Arguments {
  std::vector<Value> positional{};
  std::vector<std::pair<std::string, Value>> named{};

  // Argument `index`, or the one called `name`; null when not given.
  const Value* find(std::size_t index, std::string_view name) const;
};
struct Callable {
  std::string name{};
  std::function<Result<Value>(Renderer&, const Arguments&)> call{};
};

inline Value::Value(List list) : data_(std::make_shared<const List>(std::move(list))) {}
inline Value::Value(Dict dict) : data_(std::make_shared<const Dict>(std::move(dict))) {}
inline Value Value::name_space(Namespace names) {
  return Value(Data(std::make_shared<Namespace>(std::move(names))));
}
inline Value Value::callable(Callable callable) {
  return Value(Data(std::make_shared<const Callable>(std::move(callable))));
}

bool truthy(const Value& value);
bool equal(const Value& a, const Value& b);
// -1, 0, 1 for numbers, strings and lists; an error for what Python does not order.
Result<int> compare(const Value& a, const Value& b);
Result<bool> contains(const Value& container, const Value& item);

std::string to_text(const Value& value);    // str(): undefined is ""
std::string to_repr(const Value& value);    // repr(): strings in quotes
std::string to_markup(const Value& value);  // str(), with the characters of HTML escaped unless it is markup
// json.dumps(ensure_ascii=False), `indent` < 0 for one line.
Result<std::string> to_json(const Value& value, int indent = -1, bool sort_keys = false);

// The elements that iteration gives: of a list, the keys of a dictionary, the characters of a string.
Result<std::vector<Value>> elements(const Value& value);
const Value* find_key(const Dict& dict, const Value& key);
void set_key(Dict& dict, const Value& key, Value value);

// Strings count code points; a byte that is not UTF-8 counts as one.
std::vector<std::string_view> characters(std::string_view text);

}  // namespace nibble::jinja
