// SPDX-License-Identifier: Apache-2.0
// Operators, indexing and attribute access with Python's rules.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "text/jinja/builtins.h"
#include "text/jinja/renderer.h"

namespace nibble::jinja {
namespace {

Error wrong_operands(const std::string& op, const Value& a, const Value& b) {
  return bad_data(fmt::format("{} does not work on a {} and a {}", op, a.type_name(), b.type_name()));
}

Error overflow(const std::string& op) {
  return bad_data(fmt::format("{} gives a number beyond 64 bits", op));
}

Result<Value> integer_power(std::int64_t base, std::int64_t exponent) {
  std::int64_t value = 1;
  for (; exponent > 0; --exponent) {
    if (__builtin_mul_overflow(value, base, &value)) return overflow("**");
    if (value == 0 || (base == 1) || (base == -1 && exponent % 2 == 1)) return Value(value);
  }
  return Value(value);
}

Result<Value> integer_arithmetic(const std::string& op, std::int64_t a, std::int64_t b) {
  std::int64_t value = 0;
  if (op == "+" && !__builtin_add_overflow(a, b, &value)) return Value(value);
  if (op == "-" && !__builtin_sub_overflow(a, b, &value)) return Value(value);
  if (op == "*" && !__builtin_mul_overflow(a, b, &value)) return Value(value);
  if (op == "/" || op == "//" || op == "%") {
    if (b == 0) return bad_data("division by zero");
    if (op == "/") return Value(static_cast<double>(a) / static_cast<double>(b));
    if (a == INT64_MIN && b == -1) return overflow(op);
    const std::int64_t remainder = a % b;
    const bool lower = remainder != 0 && (remainder < 0) != (b < 0);  // Python rounds towards minus infinity
    if (op == "//") return Value(a / b - (lower ? 1 : 0));
    return Value(remainder + (lower ? b : 0));
  }
  if (op == "**" && b >= 0) return integer_power(a, b);
  if (op == "**") return Value(std::pow(static_cast<double>(a), static_cast<double>(b)));
  return overflow(op);
}

Result<Value> real_arithmetic(const std::string& op, double a, double b) {
  if (op == "+") return Value(a + b);
  if (op == "-") return Value(a - b);
  if (op == "*") return Value(a * b);
  if (op == "**") return Value(std::pow(a, b));
  if (b == 0) return bad_data("division by zero");
  if (op == "/") return Value(a / b);
  if (op == "//") return Value(std::floor(a / b));
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
  return Value(remainder);
}

// "ab" * 3 and [1] * 3.
Result<Value> repeated(Renderer& renderer, const Value& base, std::int64_t count) {
  const auto times = static_cast<std::size_t>(std::max<std::int64_t>(count, 0));
  if (const std::string* text = base.as_string()) {
    if (!text->empty() && times > std::numeric_limits<std::size_t>::max() / 2 / text->size()) {
      TRY(renderer.check_size(std::numeric_limits<std::size_t>::max()));
    }
    TRY(renderer.check_size(text->size() * times));
    std::string out;
    for (std::size_t i = 0; i < times && !text->empty(); ++i) out += *text;
    return Value(std::move(out));
  }
  const List& list = *base.as_list();
  List out{.items = {}, .is_tuple = list.is_tuple};
  std::int64_t total = 0;
  if (__builtin_mul_overflow(static_cast<std::int64_t>(list.items.size()), std::max<std::int64_t>(count, 0),
                             &total)) {
    total = std::numeric_limits<std::int64_t>::max() / 2;
  }
  TRY(renderer.spend(total));
  for (std::size_t i = 0; i < times && !list.items.empty(); ++i) {
    out.items.insert(out.items.end(), list.items.begin(), list.items.end());
  }
  return Value(std::move(out));
}

}  // namespace

Result<Value> arithmetic(Renderer& renderer, const std::string& op, const Value& a, const Value& b) {
  std::int64_t whole_a = 0;
  std::int64_t whole_b = 0;
  if (a.integer(whole_a) && b.integer(whole_b)) return integer_arithmetic(op, whole_a, whole_b);
  double real_a = 0;
  double real_b = 0;
  if (a.number(real_a) && b.number(real_b)) return real_arithmetic(op, real_a, real_b);
  if (op == "+" && a.as_string() != nullptr && b.as_string() != nullptr) {
    TRY(renderer.check_size(a.as_string()->size() + b.as_string()->size()));
    if (a.is_markup() || b.is_markup()) return Value::markup(to_markup(a) + to_markup(b));
    return Value(*a.as_string() + *b.as_string());
  }
  const List* list_a = a.as_list();
  const List* list_b = b.as_list();
  if (op == "+" && list_a != nullptr && list_b != nullptr && list_a->is_tuple == list_b->is_tuple) {
    TRY(renderer.spend(static_cast<std::int64_t>(list_a->items.size() + list_b->items.size())));
    List out = *list_a;
    out.items.insert(out.items.end(), list_b->items.begin(), list_b->items.end());
    return Value(std::move(out));
  }
  if (op == "*" && (a.as_string() != nullptr || list_a != nullptr) && b.integer(whole_b)) {
    return repeated(renderer, a, whole_b);
  }
  if (op == "*" && (b.as_string() != nullptr || list_b != nullptr) && a.integer(whole_a)) {
    return repeated(renderer, b, whole_a);
  }
  if (op == "%" && a.as_string() != nullptr) {
    return format_percent(*a.as_string(),
                          list_b != nullptr && list_b->is_tuple ? list_b->items : std::vector<Value>{b});
  }
  for (const Value* operand : {&a, &b}) {
    if (operand->is_undefined())
      return bad_data(fmt::format("{} is undefined", operand->undefined_name().name));
  }
  return wrong_operands(op, a, b);
}

Result<Value> get_attribute(const Value& base, const std::string& name) {
  if (base.is_undefined())
    return bad_data(fmt::format("{} is undefined, so it has no {}", base.undefined_name().name, name));
  if (const Namespace* names = base.as_namespace()) {
    for (const auto& [key, value] : names->names) {
      if (key == name) return value;
    }
    return Value::undefined(name);
  }
  const Value method = bound_method(base, name);
  if (!method.is_undefined()) return method;
  if (const Dict* dict = base.as_dict()) {
    if (const Value* value = find_key(*dict, Value(name))) return *value;
  }
  return Value::undefined(name);
}

Result<Value> get_item(const Value& base, const Value& key) {
  if (base.is_undefined())
    return bad_data(
        fmt::format("{} is undefined, so it has no [{}]", base.undefined_name().name, to_repr(key)));
  if (const Dict* dict = base.as_dict()) {
    if (const Value* value = find_key(*dict, key)) return *value;
  }
  std::int64_t index = 0;
  if (key.integer(index) && (base.as_list() != nullptr || base.as_string() != nullptr)) {
    const std::vector<std::string_view> letters =
        base.as_string() != nullptr ? characters(*base.as_string()) : std::vector<std::string_view>();
    const auto size =
        static_cast<std::int64_t>(base.as_list() != nullptr ? base.as_list()->items.size() : letters.size());
    if (index < 0) index += size;
    const auto at = static_cast<std::size_t>(index);
    if (index >= 0 && index < size && base.as_list() != nullptr) return base.as_list()->items[at];
    if (index >= 0 && index < size) return Value(std::string(letters[at]));
    return Value::undefined(fmt::format("element {}", to_repr(key)));
  }
  // x["name"] falls back to x.name, as Jinja does.
  if (key.as_string() != nullptr) return get_attribute(base, *key.as_string());
  return Value::undefined(fmt::format("element {}", to_repr(key)));
}

Result<Value> get_slice(const Value& base, const Value& begin, const Value& end, const Value& step) {
  if (base.as_list() == nullptr && base.as_string() == nullptr) {
    if (base.is_undefined()) return bad_data(fmt::format("{} is undefined", base.undefined_name().name));
    return bad_data(fmt::format("a {} cannot be sliced", base.type_name()));
  }
  TRY_ASSIGN(const std::vector<Value> items, elements(base));
  const auto size = static_cast<std::int64_t>(items.size());
  std::int64_t stride = 1;
  if (!step.is_none() && !step.integer(stride)) return bad_data("a slice needs whole numbers");
  if (stride == 0) return bad_data("the step of a slice is 0");
  // Python's slice.indices().
  const std::int64_t lowest = stride < 0 ? -1 : 0;
  const std::int64_t highest = stride < 0 ? size - 1 : size;
  const auto bound = [&](const Value& value, std::int64_t otherwise) -> Result<std::int64_t> {
    std::int64_t index = otherwise;
    if (value.is_none()) return otherwise;
    if (!value.integer(index)) return bad_data("a slice needs whole numbers");
    if (index < 0) index = index < -size ? lowest : index + size;
    return std::clamp(index, lowest, highest);
  };
  TRY_ASSIGN(std::int64_t from, bound(begin, stride < 0 ? highest : lowest));
  TRY_ASSIGN(const std::int64_t to, bound(end, stride < 0 ? lowest : highest));
  List out{.items = {}, .is_tuple = base.as_list() != nullptr && base.as_list()->is_tuple};
  stride = std::clamp(stride, -size - 1, size + 1);
  for (; stride > 0 ? from < to : from > to; from += stride)
    out.items.push_back(items[static_cast<std::size_t>(from)]);
  if (base.as_list() != nullptr) return Value(std::move(out));
  std::string text;
  for (const Value& item : out.items) text += *item.as_string();
  return Value(std::move(text));
}

Result<Value> attribute_path(const Value& base, const std::string& path) {
  Value value = base;
  std::size_t begin = 0;
  while (begin <= path.size()) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    const std::string part = path.substr(begin, end - begin);
    const bool digits =
        !part.empty() && std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    const Value key = digits && part.size() < 10 ? Value(std::int64_t{std::stoi(part)}) : Value(part);
    TRY_ASSIGN(value, get_item(value, key));
    begin = end + 1;
  }
  return value;
}

}  // namespace nibble::jinja
