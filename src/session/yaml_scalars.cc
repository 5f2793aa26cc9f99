// SPDX-License-Identifier: Apache-2.0
// What an unquoted scalar means (YAML 1.1, the subset that PyYAML implements).
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "base/check.h"
#include "base/regex.h"
#include "session/yaml.h"

namespace nibble {
namespace {

Regex must_compile(std::string_view pattern) {
  auto regex = Regex::compile(pattern);
  CHECK(regex.ok(), "a built-in pattern does not compile");
  return std::move(regex).value();
}

// A text that is not UTF-8 is no number.
bool matches(const Regex& regex, std::string_view text) {
  const auto found = regex.matches_prefix(text);
  return found.ok() && *found;
}

constexpr std::array<std::string_view, 4> kNulls{"~", "null", "Null", "NULL"};
constexpr std::array<std::string_view, 9> kTrue{"yes",  "Yes", "YES", "true", "True",
                                                "TRUE", "on",  "On",  "ON"};
constexpr std::array<std::string_view, 9> kFalse{"no",    "No",  "NO",  "false", "False",
                                                 "FALSE", "off", "Off", "OFF"};

template <std::size_t N>
bool is_one_of(const std::array<std::string_view, N>& words, std::string_view text) {
  return !text.empty() && std::find(words.begin(), words.end(), text) != words.end();
}

const Regex& int_pattern() {
  static const Regex regex =
      must_compile(R"(\A(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+)\z)");
  return regex;
}

const Regex& float_pattern() {
  static const Regex regex = must_compile(
      R"(\A(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?)\z)");
  return regex;
}

const Regex& special_float_pattern() {
  static const Regex regex = must_compile(R"(\A(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\z)");
  return regex;
}

// Base-60 numbers, dates and the two indicator scalars: PyYAML reads them as something else, read_yaml as
// text.
const Regex& odd_pattern() {
  static const Regex regex = must_compile(
      R"(\A(?:[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|=|<<|)"
      R"([0-9]{4}-[0-9]{2}-[0-9]{2}|)"
      R"([0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?)"
      R"((?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?)\z)");
  return regex;
}

std::optional<std::int64_t> integer_of(std::string text) {
  std::erase(text, '_');
  const bool negative = text[0] == '-';
  if (text[0] == '-' || text[0] == '+') text.erase(0, 1);
  int base = 10;
  if (text.starts_with("0b")) {
    base = 2;
    text.erase(0, 2);
  } else if (text.starts_with("0x")) {
    base = 16;
    text.erase(0, 2);
  } else if (text.size() > 1 && text[0] == '0') {
    base = 8;
  }
  if (text.empty()) return std::nullopt;
  errno = 0;
  char* end = nullptr;
  const long long value = std::strtoll(text.c_str(), &end, base);
  if (errno != 0 || *end != '\0') return std::nullopt;
  return negative ? -value : value;
}

double float_of(std::string text) {
  std::erase(text, '_');
  if (matches(special_float_pattern(), text)) {
    if (text.ends_with('n') || text.ends_with('N')) return std::numeric_limits<double>::quiet_NaN();
    const double infinity = std::numeric_limits<double>::infinity();
    return text[0] == '-' ? -infinity : infinity;
  }
  return std::strtod(text.c_str(), nullptr);
}

}  // namespace

RecipeValue resolve_yaml_scalar(const std::string& text) {
  if (text.empty() || is_one_of(kNulls, text)) return {};
  if (is_one_of(kTrue, text)) return true;
  if (is_one_of(kFalse, text)) return false;
  if (matches(int_pattern(), text)) {
    if (const auto value = integer_of(text)) return *value;
    return text;
  }
  if (matches(float_pattern(), text) || matches(special_float_pattern(), text)) return float_of(text);
  return text;
}

bool resolves_to_other_type(const std::string& text) {
  return !resolve_yaml_scalar(text).if_text() || matches(odd_pattern(), text);
}

}  // namespace nibble
