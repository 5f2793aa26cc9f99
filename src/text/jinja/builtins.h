// SPDX-License-Identifier: Apache-2.0
// Filters, tests, methods and functions of the template language: one table each.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace nibble::jinja {

class Renderer;

struct FilterEntry {
  const char* name;
  Result<Value> (*apply)(Renderer& renderer, const Value& base, const Arguments& arguments);
};
const std::vector<FilterEntry>& text_filters();
const std::vector<FilterEntry>& number_filters();
const std::vector<FilterEntry>& sequence_filters();

// Unknown names are errors with the nearest known one.
Status check_filter_name(const std::string& name);
Status check_test_name(const std::string& name);
Result<Value> apply_filter(Renderer& renderer, const std::string& name, const Value& base,
                           const Arguments& arguments);
Result<bool> apply_test(const std::string& name, const Value& base, const Arguments& arguments);

// x.name for a method of strings, lists or dictionaries; undefined when there is none.
Value bound_method(const Value& self, const std::string& name);
// x.a.b or x.0, as map(attribute="a.b") reads it.
Result<Value> attribute_path(const Value& base, const std::string& path);
Result<Value> get_attribute(const Value& base, const std::string& name);  // x.name
Result<Value> get_item(const Value& base, const Value& key);              // x[key]
Result<Value> get_slice(const Value& base, const Value& begin, const Value& end, const Value& step);

// a op b for + - * / // % **.
Result<Value> arithmetic(Renderer& renderer, const std::string& op, const Value& a, const Value& b);
// "%s of %d" % values.
Result<Value> format_percent(const std::string& pattern, const std::vector<Value>& values);

// range, namespace, dict, raise_exception.
std::vector<std::pair<std::string, Value>> global_functions();

// Typed arguments of built-ins; the error names the built-in.
Result<std::string> text_argument(const char* what, const Value& value);
Result<std::int64_t> integer_argument(const char* what, const Value& value);

}  // namespace nibble::jinja
