// SPDX-License-Identifier: Apache-2.0
// Filters on lists and dictionaries.
#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/builtins.h"
#include "text/jinja/renderer.h"
#include "text/jinja/strings.h"

namespace nibble::jinja {
namespace {

Result<std::vector<Value>> items_of(Renderer& renderer, const Value& base) {
  TRY_ASSIGN(std::vector<Value> items, elements(base));
  TRY(renderer.spend(static_cast<std::int64_t>(items.size())));
  return items;
}

// The value that sort, unique, min and max look at: strings without case unless told, an attribute if named.
class Key {
 public:
  Key(const Arguments& arguments, std::size_t case_index, std::size_t attribute_index) {
    const Value* sensitive = arguments.find(case_index, "case_sensitive");
    case_sensitive_ = sensitive != nullptr && truthy(*sensitive);
    if (const Value* attribute = arguments.find(attribute_index, "attribute");
        attribute != nullptr && !attribute->is_none()) {
      attribute_ = to_text(*attribute);
    }
  }

  Result<Value> of(const Value& item) const {
    Value key = item;
    if (!attribute_.empty()) {
      TRY_ASSIGN(key, attribute_path(item, attribute_));
    }
    if (!case_sensitive_ && key.as_string() != nullptr) key = Value(lower(*key.as_string()));
    return key;
  }

 private:
  bool case_sensitive_ = false;
  std::string attribute_;
};

// Stable; the first failed comparison is the error.
Status sort_by(std::vector<std::pair<Value, Value>>& keyed, bool reverse) {
  std::optional<Error> error;
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    if (error) return false;
    const Result<int> order = reverse ? compare(b.first, a.first) : compare(a.first, b.first);
    if (!order.ok()) error = order.error();
    return order.ok() && *order < 0;
  });
  if (error) return *error;
  return {};
}

Result<Value> sort_filter(Renderer& renderer, const Value& base, const Arguments& arguments) {
  TRY_ASSIGN(const std::vector<Value> items, items_of(renderer, base));
  const Value* reverse = arguments.find(0, "reverse");
  const Key key(arguments, 1, 2);
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : items) {
    TRY_ASSIGN(Value k, key.of(item));
    keyed.emplace_back(std::move(k), item);
  }
  TRY(sort_by(keyed, reverse != nullptr && truthy(*reverse)));
  List list;
  for (auto& [k, item] : keyed) list.items.push_back(std::move(item));
  return Value(std::move(list));
}

Result<Value> dictsort(Renderer&, const Value& base, const Arguments& arguments) {
  if (base.as_dict() == nullptr)
    return bad_data(fmt::format("dictsort needs a dict, not a {}", base.type_name()));
  const Value* by = arguments.find(1, "by");
  const Value* reverse = arguments.find(2, "reverse");
  const Key key(arguments, 0, SIZE_MAX);
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [name, value] : base.as_dict()->pairs) {
    TRY_ASSIGN(Value k, key.of(by != nullptr && to_text(*by) == "value" ? value : name));
    keyed.emplace_back(std::move(k), Value(List{.items = {name, value}, .is_tuple = true}));
  }
  TRY(sort_by(keyed, reverse != nullptr && truthy(*reverse)));
  List list;
  for (auto& [k, item] : keyed) list.items.push_back(std::move(item));
  return Value(std::move(list));
}

template <int direction>
Result<Value> extreme(Renderer& renderer, const Value& base, const Arguments& arguments) {
  TRY_ASSIGN(const std::vector<Value> items, items_of(renderer, base));
  const Key key(arguments, 0, 1);
  const Value* best = nullptr;
  Value best_key;
  for (const Value& item : items) {
    TRY_ASSIGN(Value k, key.of(item));
    if (best != nullptr) {
      TRY_ASSIGN(const int order, compare(k, best_key));
      if (order * direction <= 0) continue;
    }
    best = &item;
    best_key = std::move(k);
  }
  return best == nullptr ? Value::undefined("the extreme of an empty list") : *best;
}

Result<Value> unique(Renderer& renderer, const Value& base, const Arguments& arguments) {
  TRY_ASSIGN(const std::vector<Value> items, items_of(renderer, base));
  const Key key(arguments, 0, 1);
  List list;
  std::vector<Value> seen;
  for (const Value& item : items) {
    TRY_ASSIGN(Value k, key.of(item));
    TRY(renderer.spend(static_cast<std::int64_t>(seen.size())));
    if (std::any_of(seen.begin(), seen.end(), [&](const Value& other) { return equal(other, k); })) continue;
    seen.push_back(std::move(k));
    list.items.push_back(item);
  }
  return Value(std::move(list));
}

Result<Value> length(Renderer&, const Value& base, const Arguments&) {
  if (const std::string* text = base.as_string())
    return Value(static_cast<std::int64_t>(characters(*text).size()));
  if (const List* list = base.as_list()) return Value(static_cast<std::int64_t>(list->items.size()));
  if (const Dict* dict = base.as_dict()) return Value(static_cast<std::int64_t>(dict->pairs.size()));
  if (base.is_undefined()) return Value(0);
  return bad_data(fmt::format("a {} has no length", base.type_name()));
}

Result<Value> first(Renderer& renderer, const Value& base, const Arguments&) {
  TRY_ASSIGN(const std::vector<Value> items, items_of(renderer, base));
  return items.empty() ? Value::undefined("the first of an empty list") : items.front();
}

Result<Value> last(Renderer& renderer, const Value& base, const Arguments&) {
  TRY_ASSIGN(const std::vector<Value> items, items_of(renderer, base));
  return items.empty() ? Value::undefined("the last of an empty list") : items.back();
}

Result<Value> as_list_filter(Renderer& renderer, const Value& base, const Arguments&) {
  TRY_ASSIGN(std::vector<Value> items, items_of(renderer, base));
  return Value(List{.items = std::move(items)});
}

Result<Value> reverse_filter(Renderer& renderer, const Value& base, const Arguments&) {
  if (base.as_string() != nullptr) return get_slice(base, Value(), Value(), Value(-1));
  TRY_ASSIGN(std::vector<Value> items, items_of(renderer, base));
  std::reverse(items.begin(), items.end());
  return Value(List{.items = std::move(items)});
}

Result<Value> items_filter(Renderer& renderer, const Value& base, const Arguments&) {
  if (base.is_undefined()) return Value(List{});
  if (base.as_dict() == nullptr)
    return bad_data(fmt::format("items needs a dict, not a {}", base.type_name()));
  return renderer.call(bound_method(base, "items"), {});
}

Result<Value> join(Renderer& renderer, const Value& base, const Arguments& arguments) {
  TRY_ASSIGN(const std::vector<Value> items, items_of(renderer, base));
  const Value* separator = arguments.find(0, "d");
  const Value* attribute = arguments.find(1, "attribute");
  std::string out;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0 && separator != nullptr) out += to_text(*separator);
    Value item = items[i];
    if (attribute != nullptr && !attribute->is_none()) {
      TRY_ASSIGN(item, attribute_path(item, to_text(*attribute)));
    }
    out += to_text(item);
    TRY(renderer.check_size(out.size()));
  }
  return Value(std::move(out));
}

Result<Value> sum(Renderer& renderer, const Value& base, const Arguments& arguments) {
  TRY_ASSIGN(const std::vector<Value> items, items_of(renderer, base));
  const Value* attribute = arguments.find(0, "attribute");
  const Value* start = arguments.find(1, "start");
  Value total = start == nullptr ? Value(0) : *start;
  for (Value item : items) {
    if (attribute != nullptr && !attribute->is_none()) {
      TRY_ASSIGN(item, attribute_path(item, to_text(*attribute)));
    }
    TRY_ASSIGN(total, arithmetic(renderer, "+", total, item));
  }
  return total;
}

Arguments without_first(const Arguments& arguments, std::size_t count) {
  Arguments rest = arguments;
  const std::size_t gone = std::min(count, rest.positional.size());
  rest.positional.erase(rest.positional.begin(), rest.positional.begin() + static_cast<std::ptrdiff_t>(gone));
  return rest;
}

// map(attribute="x", default=...) or map("filter", arguments...).
Result<Value> map(Renderer& renderer, const Value& base, const Arguments& arguments) {
  if (!truthy(base)) return Value(List{});
  TRY_ASSIGN(const std::vector<Value> items, items_of(renderer, base));
  const Value* attribute = arguments.find(SIZE_MAX, "attribute");
  const Value* fallback = arguments.find(SIZE_MAX, "default");
  if (attribute == nullptr && arguments.positional.empty())
    return bad_data("map needs a filter or an attribute");
  List list;
  for (const Value& item : items) {
    if (attribute != nullptr) {
      TRY_ASSIGN(Value value, attribute_path(item, to_text(*attribute)));
      list.items.push_back(value.is_undefined() && fallback != nullptr ? *fallback : value);
    } else {
      TRY_ASSIGN(list.items.emplace_back(),
                 apply_filter(renderer, to_text(arguments.positional[0]), item, without_first(arguments, 1)));
    }
  }
  return Value(std::move(list));
}

// select, reject, selectattr, rejectattr: the items whose value (or attribute) passes a test, or is true
// without one.
template <bool keep, bool by_attribute>
Result<Value> choose(Renderer& renderer, const Value& base, const Arguments& arguments) {
  if (!truthy(base)) return Value(List{});
  TRY_ASSIGN(const std::vector<Value> items, items_of(renderer, base));
  constexpr std::size_t kTest = by_attribute ? 1 : 0;
  if (by_attribute && arguments.positional.empty()) return bad_data("an attribute is needed");
  List list;
  for (const Value& item : items) {
    Value value = item;
    if (by_attribute) {
      TRY_ASSIGN(value, attribute_path(item, to_text(arguments.positional[0])));
    }
    bool passes = truthy(value);
    if (arguments.positional.size() > kTest) {
      TRY_ASSIGN(passes, apply_test(to_text(arguments.positional[kTest]), value,
                                    without_first(arguments, kTest + 1)));
    }
    if (passes == keep) list.items.push_back(item);
  }
  return Value(std::move(list));
}

}  // namespace

const std::vector<FilterEntry>& sequence_filters() {
  static const std::vector<FilterEntry> table{
      {"length", length},
      {"count", length},
      {"first", first},
      {"last", last},
      {"list", as_list_filter},
      {"reverse", reverse_filter},
      {"items", items_filter},
      {"join", join},
      {"sum", sum},
      {"map", map},
      {"select", choose<true, false>},
      {"reject", choose<false, false>},
      {"selectattr", choose<true, true>},
      {"rejectattr", choose<false, true>},
      {"sort", sort_filter},
      {"dictsort", dictsort},
      {"unique", unique},
      {"min", extreme<-1>},
      {"max", extreme<1>},
  };
  return table;
}

}  // namespace nibble::jinja
