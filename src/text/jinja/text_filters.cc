// SPDX-License-Identifier: Apache-2.0
// Filters on texts and numbers.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/suggest.h"
#include "text/jinja/builtins.h"
#include "text/jinja/renderer.h"
#include "text/jinja/strings.h"

namespace nibble::jinja {
namespace {

template <std::string (*change)(std::string_view)>
Result<Value> changed(Renderer&, const Value& base, const Arguments&) {
  return Value(change(to_text(base)));
}

Result<Value> trim(Renderer&, const Value& base, const Arguments& arguments) {
  const Value* set = arguments.find(0, "chars");
  if (set == nullptr || set->is_none()) return Value(strip(to_text(base), std::nullopt, Side::kBoth));
  return Value(strip(to_text(base), to_text(*set), Side::kBoth));
}

Result<Value> tojson(Renderer& renderer, const Value& base, const Arguments& arguments) {
  int indent = -1;
  if (const Value* value = arguments.find(1, "indent"); value != nullptr && !value->is_none()) {
    TRY_ASSIGN(const std::int64_t number, integer_argument("tojson", *value));
    indent = static_cast<int>(std::clamp<std::int64_t>(number, 0, 16));
  }
  const Value* sort_keys = arguments.find(3, "sort_keys");
  TRY_ASSIGN(std::string text, to_json(base, indent, sort_keys != nullptr && truthy(*sort_keys)));
  TRY(renderer.check_size(text.size()));
  return Value(std::move(text));
}

Result<Value> otherwise(Renderer&, const Value& base, const Arguments& arguments) {
  const Value* value = arguments.find(0, "default_value");
  const Value* boolean = arguments.find(1, "boolean");
  const bool replace_false = boolean != nullptr && truthy(*boolean);
  if (!base.is_undefined() && !(replace_false && !truthy(base))) return base;
  return value == nullptr ? Value("") : *value;
}

Result<Value> replace_filter(Renderer& renderer, const Value& base, const Arguments& arguments) {
  const Value* from = arguments.find(0, "old");
  const Value* to = arguments.find(1, "new");
  if (from == nullptr || to == nullptr) return bad_data("replace needs two strings");
  std::int64_t most = -1;
  if (const Value* count = arguments.find(2, "count"); count != nullptr && !count->is_none()) {
    TRY_ASSIGN(most, integer_argument("replace", *count));
  }
  const std::string text = to_text(base);
  const std::string old_text = to_text(*from);
  const std::string new_text = to_text(*to);
  TRY(renderer.check_size((text.size() + 1) *
                          (old_text.empty() ? new_text.size() + 1 : new_text.size() / old_text.size() + 1)));
  return Value(replace(text, old_text, new_text, most));
}

// Every line but the first starts `width` columns further right; empty lines stay empty.
Result<Value> indent_filter(Renderer& renderer, const Value& base, const Arguments& arguments) {
  std::string indentation(4, ' ');
  if (const Value* width = arguments.find(0, "width")) {
    std::int64_t number = 0;
    if (width->as_string() != nullptr) {
      indentation = *width->as_string();
    } else if (width->integer(number)) {
      TRY(renderer.check_size(static_cast<std::size_t>(std::max<std::int64_t>(number, 0))));
      indentation.assign(static_cast<std::size_t>(std::max<std::int64_t>(number, 0)), ' ');
    }
  }
  const Value* first = arguments.find(1, "first");
  const Value* blank = arguments.find(2, "blank");
  const std::string text = to_text(base) + "\n";
  std::string out;
  bool first_line = true;
  for (const std::string& line : split_lines(text, false)) {
    const bool wanted = first_line ? first != nullptr && truthy(*first)
                                   : !line.empty() || (blank != nullptr && truthy(*blank));
    if (!first_line) out += '\n';
    if (wanted) out += indentation;
    out += line;
    first_line = false;
    TRY(renderer.check_size(out.size()));
  }
  return Value(std::move(out));
}

Result<Value> escape(Renderer&, const Value& base, const Arguments&) {
  return Value::markup(to_markup(base));
}
Result<Value> safe(Renderer&, const Value& base, const Arguments&) {
  return Value::markup(to_text(base));
}

Result<Value> as_string_filter(Renderer&, const Value& base, const Arguments&) {
  return Value(to_text(base));
}

Result<Value> format_filter(Renderer&, const Value& base, const Arguments& arguments) {
  return format_percent(to_text(base), arguments.positional);
}

Result<Value> wordcount(Renderer&, const Value& base, const Arguments&) {
  return Value(static_cast<std::int64_t>(split(to_text(base), std::nullopt, -1).size()));
}

// int(x) of Python, or `default`.
Result<Value> int_filter(Renderer&, const Value& base, const Arguments& arguments) {
  const Value* fallback = arguments.find(0, "default");
  std::int64_t whole = 0;
  if (base.integer(whole)) return Value(whole);
  if (const double* real = base.as_float(); real != nullptr && std::abs(*real) < 9e18) {
    return Value(static_cast<std::int64_t>(*real));
  }
  if (base.as_string() != nullptr) {
    const std::string text = strip(*base.as_string(), std::nullopt, Side::kBoth);
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + (text.starts_with('+') ? 1 : 0), end, whole);
    if (parsed.ec == std::errc() && parsed.ptr == end) return Value(whole);
    double real = 0;
    const auto as_real = std::from_chars(text.data(), end, real);
    if (as_real.ec == std::errc() && as_real.ptr == end && std::abs(real) < 9e18) {
      return Value(static_cast<std::int64_t>(real));
    }
  }
  return fallback == nullptr ? Value(0) : *fallback;
}

Result<Value> float_filter(Renderer&, const Value& base, const Arguments& arguments) {
  const Value* fallback = arguments.find(0, "default");
  double real = 0;
  if (base.number(real)) return Value(real);
  if (base.as_string() != nullptr) {
    const std::string text = strip(*base.as_string(), std::nullopt, Side::kBoth);
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, real);
    if (parsed.ec == std::errc() && parsed.ptr == end) return Value(real);
  }
  return fallback == nullptr ? Value(0.0) : *fallback;
}

Result<Value> round_filter(Renderer&, const Value& base, const Arguments& arguments) {
  double number = 0;
  if (!base.number(number)) return bad_data(fmt::format("round needs a number, not a {}", base.type_name()));
  std::int64_t precision = 0;
  if (const Value* value = arguments.find(0, "precision")) {
    TRY_ASSIGN(precision, integer_argument("round", *value));
  }
  const Value* method = arguments.find(1, "method");
  const std::string kind = method == nullptr ? "common" : to_text(*method);
  const double factor = std::pow(10.0, static_cast<double>(precision));
  if (kind == "ceil") return Value(std::ceil(number * factor) / factor);
  if (kind == "floor") return Value(std::floor(number * factor) / factor);
  if (kind != "common") return bad_data(fmt::format("round: \"{}\" is none of common, ceil or floor", kind));
  return Value(std::nearbyint(number * factor) / factor);
}

Result<Value> abs_filter(Renderer& renderer, const Value& base, const Arguments&) {
  double number = 0;
  if (!base.number(number)) return bad_data(fmt::format("abs needs a number, not a {}", base.type_name()));
  if (number >= 0) return base;
  return arithmetic(renderer, "-", Value(0), base);
}

}  // namespace

const std::vector<FilterEntry>& text_filters() {
  static const std::vector<FilterEntry> table{
      {"trim", trim},
      {"upper", changed<upper>},
      {"lower", changed<lower>},
      {"capitalize", changed<capitalize>},
      {"title", changed<title_words>},
      {"tojson", tojson},
      {"default", otherwise},
      {"d", otherwise},
      {"replace", replace_filter},
      {"indent", indent_filter},
      {"escape", escape},
      {"e", escape},
      {"safe", safe},
      {"string", as_string_filter},
      {"format", format_filter},
      {"wordcount", wordcount},
  };
  return table;
}

const std::vector<FilterEntry>& number_filters() {
  static const std::vector<FilterEntry> table{
      {"int", int_filter}, {"float", float_filter}, {"round", round_filter}, {"abs", abs_filter}};
  return table;
}

namespace {

const FilterEntry* find_filter(const std::string& name, std::vector<std::string>* names) {
  for (const auto* table : {&text_filters(), &number_filters(), &sequence_filters()}) {
    for (const FilterEntry& entry : *table) {
      if (entry.name == name) return &entry;
      if (names != nullptr) names->emplace_back(entry.name);
    }
  }
  return nullptr;
}

}  // namespace

Status check_filter_name(const std::string& name) {
  std::vector<std::string> names;
  if (find_filter(name, &names) != nullptr) return {};
  return bad_data(fmt::format("there is no filter \"{}\"", name), did_you_mean(name, names));
}

Result<Value> apply_filter(Renderer& renderer, const std::string& name, const Value& base,
                           const Arguments& arguments) {
  TRY(check_filter_name(name));
  TRY(renderer.spend_on(base));
  return find_filter(name, nullptr)->apply(renderer, base, arguments).at("filter " + name);
}

Result<Value> format_percent(const std::string& pattern, const std::vector<Value>& values) {
  std::string out;
  std::size_t next = 0;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%') {
      out += pattern[i];
      continue;
    }
    if (++i >= pattern.size()) return bad_data("a format ends with %");
    if (pattern[i] == '%') {
      out += '%';
      continue;
    }
    if (next >= values.size()) return bad_data("a format wants more values than there are");
    const Value& value = values[next++];
    double number = 0;
    switch (pattern[i]) {
      case 's':
        out += to_text(value);
        break;
      case 'r':
        out += to_repr(value);
        break;
      case 'd':
      case 'i':
        if (!value.number(number))
          return bad_data(fmt::format("%d needs a number, not a {}", value.type_name()));
        out += fmt::format("{:.0f}", std::trunc(number));
        break;
      case 'f':
        if (!value.number(number))
          return bad_data(fmt::format("%f needs a number, not a {}", value.type_name()));
        out += fmt::format("{:.6f}", number);
        break;
      default:
        return bad_data(
            fmt::format("the format %{} is not supported; %s, %r, %d, %i and %f are", pattern[i]));
    }
  }
  if (next < values.size()) return bad_data("a format leaves values over");
  return Value(std::move(out));
}

}  // namespace nibble::jinja
