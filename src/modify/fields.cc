// SPDX-License-Identifier: Apache-2.0
#include "modify/fields.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <cmath>
#include <cstdlib>

#include "base/check.h"
#include "base/suggest.h"

namespace nibble {
namespace {

struct KindName {
  FieldKind kind;
  std::string_view name;
};
constexpr std::array kKindNames{
    KindName{kBoolKind, "true or false"},
    KindName{kIntKind, "an integer"},
    KindName{kFloatKind, "a number"},
    KindName{kTextKind, "a text"},
    KindName{kTextListKind, "a list of texts"},
    KindName{kFloatListKind, "a list of numbers"},
    KindName{kListKind, "a list"},
    KindName{kMapKind, "a map"},
    KindName{kNullKind, "null"},
};

std::optional<double> number_of(const RecipeValue& value) {
  if (const double* v = value.if_float()) return *v;
  if (const std::int64_t* v = value.if_int()) return static_cast<double>(*v);
  // "1e-2" is a text in YAML 1.1 (no dot), but everybody means the number.
  if (const std::string* text = value.if_text(); text && !text->empty()) {
    char* end = nullptr;
    const double number = std::strtod(text->c_str(), &end);
    if (end == text->c_str() + text->size() && std::isfinite(number)) return number;
  }
  return std::nullopt;
}

RecipeValue with_line(RecipeValue value, int line) {
  value.line = line;
  return value;
}

std::optional<RecipeValue> as_float_list(const RecipeValue& value) {
  const RecipeValue::List* list = value.if_list();
  if (!list) return std::nullopt;
  RecipeValue::List out;
  for (const RecipeValue& item : *list) {
    const auto number = number_of(item);
    if (!number) return std::nullopt;
    out.emplace_back(*number);
  }
  return out;
}

// The value in one of the row's kinds, exact kinds first; nullopt when none fits.
std::optional<RecipeValue> convert(const FieldRow& row, const RecipeValue& value) {
  const auto takes = [&](FieldKind kind) { return (row.kinds & kind) != 0; };
  if (value.is_null()) return takes(kNullKind) ? std::optional(value) : std::nullopt;
  if (value.if_bool()) return takes(kBoolKind) ? std::optional(value) : std::nullopt;
  if (value.if_map()) return takes(kMapKind) ? std::optional(value) : std::nullopt;
  if (const RecipeValue::List* list = value.if_list()) {
    if (takes(kListKind)) return value;
    if (takes(kFloatListKind)) return as_float_list(value);
    if (takes(kTextListKind) && value.texts().size() == list->size()) return value;
    return std::nullopt;
  }
  if (value.if_int() && takes(kIntKind)) return value;
  if (value.if_text() && takes(kTextKind)) return value;
  const auto number = number_of(value);
  if (number && takes(kFloatKind)) return RecipeValue(*number);
  if (number && takes(kIntKind) && *number == std::trunc(*number) && std::fabs(*number) < 1e15) {
    return RecipeValue(static_cast<std::int64_t>(*number));
  }
  if (value.if_text() && takes(kTextListKind)) return value;
  return std::nullopt;
}

Status check_allowed(const FieldRow& row, const RecipeValue& value) {
  if (row.allowed.empty()) return {};
  for (const std::string& text : value.texts()) {
    bool found = false;
    for (const std::string& allowed : row.allowed) found = found || allowed == text;
    if (!found) {
      return usage_error(fmt::format("{} is \"{}\"; allowed are {}", row.name, text, join_or(row.allowed)),
                         did_you_mean(text, row.allowed));
    }
  }
  return {};
}

Status check_bounds(const FieldRow& row, const RecipeValue& value) {
  RecipeValue::List numbers;
  if (const RecipeValue::List* list = value.if_list()) numbers = *list;
  if (value.if_int() || value.if_float()) numbers.push_back(value);
  for (const RecipeValue& item : numbers) {
    const auto number = number_of(item);
    if (!number) continue;
    if ((row.least && *number < *row.least) || (row.most && *number > *row.most) || std::isnan(*number)) {
      const std::string limits = !row.most    ? fmt::format("at least {}", *row.least)
                                 : !row.least ? fmt::format("at most {}", *row.most)
                                              : fmt::format("{} to {}", *row.least, *row.most);
      return usage_error(fmt::format("{} is {}; allowed is {}", row.name, item.to_text(), limits));
    }
  }
  return {};
}

Result<RecipeValue> read_value(const FieldRow& row, const RecipeValue& value) {
  auto converted = convert(row, value);
  if (!converted) {
    return usage_error(
        fmt::format("{} is {}; it must be {}", row.name, value.describe(), describe_kinds(row)));
  }
  if (row.normalise && !converted->is_null()) {
    auto normal = row.normalise(*converted);
    if (!normal.ok() && !normal.error().where.starts_with(row.name)) normal.error().add_context(row.name);
    if (!normal.ok()) return normal;
    converted = std::move(normal).value();
  }
  TRY(check_allowed(row, *converted));
  TRY(check_bounds(row, *converted));
  return with_line(std::move(*converted), value.line);
}

const FieldRow* find_row(const std::vector<FieldRow>& rows, std::string_view name) {
  for (const FieldRow& row : rows) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

Error unknown_field(const std::vector<FieldRow>& rows, const std::string& name, const RecipeRules& rules) {
  std::vector<std::string> names;
  for (const FieldRow& row : rows) {
    if (row.use == FieldUse::kNormal || (row.use == FieldUse::kOwn && !rules.strict)) {
      names.push_back(row.name);
    }
  }
  std::string hint = did_you_mean(name, names);
  if (hint.empty()) hint = "arguments are " + join_or(names);
  return usage_error(fmt::format("unknown argument \"{}\"", name), std::move(hint));
}

// The row that an entry sets, following aliases; null for a leftover.
Result<const FieldRow*> row_of(const std::vector<FieldRow>& rows, const std::string& name,
                               const RecipeRules& rules, std::vector<std::string>& warnings) {
  const FieldRow* row = find_row(rows, name);
  const bool refused =
      row && rules.strict &&
      (row->use == FieldUse::kLeftover || row->use == FieldUse::kAlias || row->use == FieldUse::kOwn);
  if (!row || refused) return unknown_field(rows, name, rules);
  if (row->use == FieldUse::kAlias) return find_row(rows, row->alias_of);
  if (row->use == FieldUse::kLeftover) {
    warnings.push_back(fmt::format("argument {} has no effect: {}", name, row->help));
    return static_cast<const FieldRow*>(nullptr);
  }
  return row;
}

Error at_line(Error error, const RecipeValue& value) {
  if (value.line > 0) error.add_context(fmt::format("line {}", value.line));
  return error;
}

}  // namespace

const RecipeValue& Arguments::at(std::string_view name) const {
  const RecipeValue* value = values.find(name);
  CHECK(value != nullptr, "no such argument");
  return *value;
}

std::string Arguments::text(std::string_view name) const {
  const std::string* value = at(name).if_text();
  return value ? *value : std::string();
}

std::int64_t Arguments::integer(std::string_view name) const {
  const std::int64_t* value = at(name).if_int();
  CHECK(value != nullptr, "argument is no integer");
  return *value;
}

double Arguments::number(std::string_view name) const {
  const auto value = number_of(at(name));
  CHECK(value.has_value(), "argument is no number");
  return *value;
}

bool Arguments::flag(std::string_view name) const {
  const bool* value = at(name).if_bool();
  CHECK(value != nullptr, "argument is neither true nor false");
  return *value;
}

std::vector<std::string> Arguments::texts(std::string_view name) const {
  return at(name).texts();
}

Result<Arguments> read_arguments(const std::vector<FieldRow>& rows, const RecipeValue& body,
                                 const RecipeRules& rules, std::vector<std::string>& warnings) {
  Arguments arguments;
  for (const FieldRow& row : rows) {
    if (row.use != FieldUse::kAlias && row.use != FieldUse::kLeftover)
      arguments.values.set(row.name, row.initial);
  }
  if (!body.is_null() && !body.if_map()) {
    return usage_error(fmt::format("arguments must be a map, not {}", body.describe()));
  }
  for (const auto& [name, value] : body.if_map() ? *body.if_map() : RecipeValue::Map{}) {
    auto row = row_of(rows, name, rules, warnings);
    if (!row.ok()) return at_line(std::move(row).error(), value);
    if (*row == nullptr) continue;
    if (!arguments.given.insert((*row)->name).second) {
      return at_line(usage_error(fmt::format("{} is given twice", (*row)->name)), value);
    }
    auto read = read_value(**row, value);
    if (!read.ok()) return at_line(std::move(read).error(), value);
    arguments.values.set((*row)->name, std::move(read).value());
  }
  for (const FieldRow& row : rows) {
    if (row.required && !arguments.given.contains(row.name)) {
      return usage_error(fmt::format("{} is required ({})", row.name, describe_kinds(row)));
    }
  }
  return arguments;
}

std::string describe_kinds(const FieldRow& row) {
  std::vector<std::string> names;
  for (const KindName& entry : kKindNames) {
    if ((row.kinds & entry.kind) == 0) continue;
    if (entry.kind == kTextKind && !row.allowed.empty()) {
      for (const std::string& text : row.allowed) names.push_back("\"" + text + "\"");
    } else {
      names.emplace_back(entry.name);
    }
  }
  return join_or(names);
}

}  // namespace nibble
