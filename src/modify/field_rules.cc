// SPDX-License-Identifier: Apache-2.0
#include "modify/field_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/suggest.h"
#include "modify/scheme_values.h"

namespace nibble::field_rules {
namespace {

template <class Change>
RecipeValue change_case(const RecipeValue& value, Change change) {
  if (!value.if_text() && !value.if_list()) return value;
  std::vector<std::string> texts = value.texts();
  for (std::string& text : texts) std::transform(text.begin(), text.end(), text.begin(), change);
  return value.if_text() ? RecipeValue(texts[0]) : RecipeValue::text_list(texts);
}

}  // namespace

Result<RecipeValue> list_of_texts(const RecipeValue& value) {
  return RecipeValue::text_list(value.texts());
}

Result<RecipeValue> lower_case(const RecipeValue& value) {
  return change_case(value,
                     [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
}

Result<RecipeValue> upper_case(const RecipeValue& value) {
  return change_case(value,
                     [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
}

Result<RecipeValue> preset_names_only(const RecipeValue& value) {
  const auto check = [](const std::string& name) -> Status {
    if (preset_scheme(name)) return {};
    std::string hint = did_you_mean(name, preset_names());
    if (hint.empty()) hint = "presets are " + join_or(preset_names());
    return usage_error(fmt::format("\"{}\" is no preset scheme", name), std::move(hint));
  };
  if (const std::string* text = value.if_text()) {
    TRY(check(*text));
    return value;
  }
  RecipeValue::Map out;
  for (const auto& [name, targets] : *value.if_map()) {
    TRY(check(name));
    const std::size_t wanted = targets.if_list() ? targets.if_list()->size() : 1;
    if (targets.texts().size() != wanted) {
      return usage_error(fmt::format("the targets of {} are {}; they must be a text or a list of texts", name,
                                     targets.describe()));
    }
    out.emplace_back(name, RecipeValue::text_list(targets.texts()));
  }
  return RecipeValue(std::move(out));
}

Result<RecipeValue> full_groups(const RecipeValue& value) {
  TRY_ASSIGN(const ConfigGroups groups, groups_from_value(value));
  return groups_to_value(groups);
}

Result<RecipeValue> full_kv_args(const RecipeValue& value) {
  TRY_ASSIGN(const QuantizationArgs args, args_from_value(value, "kv_cache_scheme"));
  return args_to_value(args);
}

Result<RecipeValue> known_observer(const RecipeValue& value) {
  TRY(check_observer(*value.if_text()));
  return value;
}

Result<RecipeValue> observer_map(const RecipeValue& value) {
  static const std::vector<std::string> keys{"weights", "input", "output"};
  for (const auto& [key, item] : *value.if_map()) {
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
      return usage_error(fmt::format("unknown key \"{}\"; allowed are {}", key, join_or(keys)),
                         did_you_mean(key, keys));
    }
    if (!item.if_text()) return usage_error(fmt::format("{} is {}; it must be a text", key, item.describe()));
    TRY(check_observer(*item.if_text()));
  }
  return value;
}

Result<RecipeValue> awq_mappings(const RecipeValue& value) {
  static const std::vector<FieldRow> rows{
      {.name = "smooth_layer",
       .kinds = kTextKind,
       .help = "layer whose output is scaled down",
       .required = true},
      {.name = "balance_layers",
       .kinds = kTextListKind,
       .help = "layers scaled up",
       .required = true,
       .normalise = list_of_texts},
      {.name = "activation_hook_target",
       .kinds = kTextKind | kNullKind,
       .help = "module whose input is observed, as a path from the layer that holds the mapping"},
  };
  RecipeValue::List out;
  for (const RecipeValue& item : *value.if_list()) {
    std::vector<std::string> warnings;
    TRY_ASSIGN(const Arguments mapping, read_arguments(rows, item, {}, warnings));
    out.push_back(mapping.values);
  }
  return RecipeValue(std::move(out));
}

// [[balance...], smooth] pairs.
Result<RecipeValue> smooth_mappings(const RecipeValue& value) {
  RecipeValue::List out;
  for (const RecipeValue& item : *value.if_list()) {
    const RecipeValue::List* pair = item.if_list();
    const bool shaped =
        pair && pair->size() == 2 && !(*pair)[0].texts().empty() && (*pair)[1].texts().size() == 1;
    if (!shaped) {
      return usage_error(
          fmt::format("the mapping {} is not of the form [[balance layers], smooth layer]", item.describe()));
    }
    out.push_back(RecipeValue::List{RecipeValue::text_list((*pair)[0].texts()), (*pair)[1].texts()[0]});
  }
  return RecipeValue(std::move(out));
}

Result<RecipeValue> mask_structure(const RecipeValue& value) {
  const std::string& text = *value.if_text();
  int n = -1;
  int m = -1;
  const char* end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, n);
  const bool colon = first.ec == std::errc{} && first.ptr != end && *first.ptr == ':';
  const auto second = colon ? std::from_chars(first.ptr + 1, end, m) : first;
  if (!colon || second.ec != std::errc{} || second.ptr != end || n < 0 || m < 0 || (m == 0) != (n == 0) ||
      n > m) {
    return usage_error(
        fmt::format("\"{}\" is not \"N:M\" (N of every M weights pruned) or \"0:0\" (no structure)", text));
  }
  return value;
}

Result<RecipeValue> float_dtype(const RecipeValue& value) {
  const auto dtype = dtype_from_torch(*value.if_text());
  if (!dtype || !is_float(*dtype)) return usage_error(fmt::format("{} is no float type", value.describe()));
  return RecipeValue("torch." + std::string(torch_name(*dtype)));
}

Result<RecipeValue> json_path(const RecipeValue& value) {
  if (!value.if_text()->ends_with(".json")) {
    return usage_error(fmt::format("{} does not end in .json", value.describe()));
  }
  return value;
}

Result<RecipeValue> always_false(const RecipeValue&) {
  return RecipeValue(false);
}

Result<RecipeValue> not_true(const RecipeValue& value) {
  if (!*value.if_bool()) return value;
  return usage_error("true is not supported; allowed is false");
}

Status check_quantization(Arguments& arguments) {
  if (!arguments.at("scheme").is_null() && !arguments.at("config_groups").is_null()) {
    return usage_error("scheme and config_groups are both given", "keep one of them");
  }
  if (arguments.at("observer").is_null()) return {};
  for (const char* name : {"weight_observer", "input_observer", "output_observer"}) {
    if (!arguments.at(name).is_null()) {
      return usage_error(fmt::format("observer and {} are both given", name), "keep one of the two forms");
    }
  }
  return {};
}

Status check_owl(Arguments& arguments) {
  const RecipeValue& name = arguments.at("sparsity_profile");
  const bool profile = !name.is_null() && arguments.text("sparsity_profile") != "kl";
  const bool m = !arguments.at("owl_m").is_null();
  const bool lambda = !arguments.at("owl_lmbda").is_null();
  if (profile == m && m == lambda) return {};
  return usage_error("sparsity_profile: owl, owl_m and owl_lmbda go together; only some of them are given",
                     "give all three or none, for example owl_m: 5, owl_lmbda: 0.08");
}

Status check_whole_run(Arguments& arguments) {
  for (const char* name : {"start", "end"}) {
    const RecipeValue& value = arguments.at(name);
    if (!value.is_null() && arguments.number(name) != -1.0) {
      return usage_error(
          fmt::format("{} is {}; smoothing runs once, so only -1 or null is allowed", name, value.to_text()));
    }
  }
  return {};
}

Status check_open_interval(Arguments& arguments) {
  const double sparsity = arguments.number("sparsity");
  if (sparsity > 0 && sparsity < 1) return {};
  return usage_error(fmt::format("sparsity is {}; allowed is more than 0 and less than 1", sparsity));
}

}  // namespace nibble::field_rules
