// SPDX-License-Identifier: Apache-2.0
#include "modify/scheme_values.h"

#include <fmt/format.h>

#include "base/suggest.h"
#include "modify/field_rules.h"

namespace nibble {
namespace {

using field_rules::lower_case;

Result<RecipeValue> block_pair(const RecipeValue& value) {
  if (const std::string* text = value.if_text()) {
    TRY_ASSIGN(const auto block, block_structure_from_string(*text));
    return RecipeValue(RecipeValue::List{block[0], block[1]});
  }
  const RecipeValue::List& list = *value.if_list();
  const bool two_integers = list.size() == 2 && list[0].if_int() && list[1].if_int();
  if (!two_integers) return usage_error(fmt::format("{} is not a pair [rows, cols]", value.describe()));
  return value;
}

Result<RecipeValue> checked_observer(const RecipeValue& value) {
  TRY(check_observer(*value.if_text()));
  return value;
}

// The reference took these words up to 0.13 and has no runtime for them any more.
Result<RecipeValue> checked_actorder(const RecipeValue& value) {
  if (const bool* flag = value.if_bool()) {
    if (!*flag) return RecipeValue();
    return usage_error("true stood for \"group\", which was removed", "use \"weight\" or null");
  }
  TRY_ASSIGN(const RecipeValue lower, lower_case(value));
  if (*lower.if_text() == "group" || *lower.if_text() == "dynamic") {
    return usage_error(
        fmt::format("\"{}\" was removed: no runtime reads its column order any more", value.to_text()),
        "use \"weight\" (the same order without stored indices) or null");
  }
  return lower;
}

Result<RecipeValue> checked_dtype(const RecipeValue& value) {
  const auto dtype = dtype_from_torch(*value.if_text());
  if (!dtype) {
    return usage_error(fmt::format("{} is no element type", value.describe()),
                       "for example torch.float8_e4m3fn, torch.uint8 or torch.bfloat16");
  }
  return RecipeValue("torch." + std::string(torch_name(*dtype)));
}

const std::vector<FieldRow>& scheme_rows() {
  constexpr unsigned kArgs = kMapKind | kNullKind;
  static const std::vector<FieldRow> rows{
      {.name = "targets",
       .kinds = kTextListKind,
       .initial = RecipeValue::text_list({"Linear"}),
       .help = "names, re: patterns or classes",
       .required = true},
      {.name = "weights", .kinds = kArgs, .help = "arguments of the weights"},
      {.name = "input_activations", .kinds = kArgs, .help = "arguments of the inputs"},
      {.name = "output_activations", .kinds = kArgs, .help = "arguments of the outputs"},
      {.name = "format",
       .kinds = kTextKind | kNullKind,
       .help = "forced compression format",
       .allowed = format_names(),
       .normalise = lower_case},
  };
  return rows;
}

Result<std::map<std::string, ObserverValue>> observer_kwargs(const RecipeValue& value) {
  std::map<std::string, ObserverValue> out;
  for (const auto& [key, item] : value.if_map() ? *value.if_map() : RecipeValue::Map{}) {
    if (const bool* v = item.if_bool()) {
      out[key] = *v;
    } else if (const std::int64_t* i = item.if_int()) {
      out[key] = *i;
    } else if (const double* d = item.if_float()) {
      out[key] = *d;
    } else if (const std::string* t = item.if_text()) {
      out[key] = *t;
    } else {
      return usage_error(fmt::format("observer_kwargs: {} is {}; it must be a scalar", key, item.describe()));
    }
  }
  return out;
}

RecipeValue optional_text(const std::optional<std::string>& text) {
  return text ? RecipeValue(*text) : RecipeValue();
}

RecipeValue dtype_value(const std::optional<DType>& dtype) {
  return dtype ? RecipeValue("torch." + std::string(torch_name(*dtype))) : RecipeValue();
}

std::optional<DType> dtype_of(const Arguments& arguments, std::string_view name) {
  const std::string text = arguments.text(name);
  return text.empty() ? std::nullopt : dtype_from_torch(text);
}

RecipeValue args_or_null(const std::optional<QuantizationArgs>& args) {
  return args ? args_to_value(*args) : RecipeValue();
}

void fill_args(const Arguments& from, QuantizationArgs& args) {
  args.num_bits = static_cast<int>(from.integer("num_bits"));
  args.type = *number_type_from_string(from.text("type"));
  args.symmetric = from.flag("symmetric");
  if (const std::int64_t* size = from.at("group_size").if_int()) args.group_size = *size;
  if (!from.at("strategy").is_null()) args.strategy = strategy_from_string(from.text("strategy"));
  if (const RecipeValue::List* block = from.at("block_structure").if_list()) {
    args.block_structure = {*(*block)[0].if_int(), *(*block)[1].if_int()};
  }
  const bool* dynamic = from.at("dynamic").if_bool();
  args.dynamic = !dynamic ? Dynamic::kLocal : *dynamic ? Dynamic::kTrue : Dynamic::kFalse;
  if (!from.at("actorder").is_null()) {
    args.actorder = actorder_from_string(from.text("actorder"));
    args.actorder_spelling = from.text("actorder");
  }
  args.scale_dtype = dtype_of(from, "scale_dtype");
  args.zp_dtype = dtype_of(from, "zp_dtype");
  if (!from.at("observer").is_null()) args.observer = from.text("observer");
}

}  // namespace

const std::vector<FieldRow>& quantization_args_rows() {
  static const std::vector<FieldRow> rows{
      {.name = "num_bits", .kinds = kIntKind, .initial = 8, .help = "bits per code", .least = 1, .most = 8},
      {.name = "type",
       .kinds = kTextKind,
       .initial = "int",
       .help = "number format",
       .allowed = {"int", "float"},
       .normalise = lower_case},
      {.name = "symmetric", .kinds = kBoolKind, .initial = true, .help = "no zero point"},
      {.name = "group_size",
       .kinds = kIntKind | kNullKind,
       .help = "columns that share a scale; -1: the whole row"},
      {.name = "strategy",
       .kinds = kTextKind | kNullKind,
       .help = "what shares a scale; null: from group_size",
       .allowed = strategy_names(),
       .normalise = lower_case},
      {.name = "block_structure",
       .kinds = kListKind | kTextKind | kNullKind,
       .help = "[rows, cols] or \"128x128\", for strategy block",
       .normalise = block_pair},
      {.name = "dynamic",
       .kinds = kBoolKind | kTextKind,
       .initial = false,
       .help = "scales found at run time",
       .allowed = {"local"},
       .normalise = lower_case},
      {.name = "actorder",
       .kinds = kTextKind | kBoolKind | kNullKind,
       .help = "order of columns in GPTQ",
       .allowed = {"weight", "static"},
       .normalise = checked_actorder},
      {.name = "scale_dtype",
       .kinds = kTextKind | kNullKind,
       .help = "type of stored scales; null: the model's",
       .normalise = checked_dtype},
      {.name = "zp_dtype",
       .kinds = kTextKind | kNullKind,
       .help = "type of stored zero points",
       .normalise = checked_dtype},
      {.name = "observer",
       .kinds = kTextKind | kNullKind,
       .help = "how ranges are found",
       .normalise = checked_observer},
      {.name = "observer_kwargs",
       .kinds = kMapKind | kNullKind,
       .initial = RecipeValue::Map{},
       .help = "arguments of the observer"},
  };
  return rows;
}

Result<QuantizationArgs> args_from_value(const RecipeValue& value, std::string_view field) {
  std::vector<std::string> warnings;
  auto arguments = read_arguments(quantization_args_rows(), value, {}, warnings);
  if (!arguments.ok()) return std::move(arguments).at(field).error();
  QuantizationArgs args;
  fill_args(*arguments, args);
  auto kwargs = observer_kwargs(arguments->at("observer_kwargs"));
  if (!kwargs.ok()) return std::move(kwargs).at(field).error();
  args.observer_kwargs = std::move(kwargs).value();
  const std::optional<std::string> observer = args.observer;
  TRY(args.validate(field));
  args.observer = observer;
  return args;
}

RecipeValue args_to_value(const QuantizationArgs& args) {
  RecipeValue::Map kwargs;
  for (const auto& [key, item] : args.observer_kwargs) {
    kwargs.emplace_back(key, std::visit([](const auto& v) { return RecipeValue(v); }, item));
  }
  RecipeValue block;
  if (args.block_structure) block = RecipeValue::List{(*args.block_structure)[0], (*args.block_structure)[1]};
  RecipeValue dynamic = args.dynamic == Dynamic::kTrue;
  if (args.dynamic == Dynamic::kLocal) dynamic = "local";
  return RecipeValue::Map{
      {"num_bits", args.num_bits},
      {"type", std::string(to_string(args.type))},
      {"symmetric", args.symmetric},
      {"group_size", args.group_size ? RecipeValue(*args.group_size) : RecipeValue()},
      {"strategy", args.strategy ? RecipeValue(std::string(to_string(*args.strategy))) : RecipeValue()},
      {"block_structure", std::move(block)},
      {"dynamic", std::move(dynamic)},
      {"actorder", args.actorder ? RecipeValue(args.actorder_spelling) : RecipeValue()},
      {"scale_dtype", dtype_value(args.scale_dtype)},
      {"zp_dtype", args.symmetric ? RecipeValue() : dtype_value(args.zp_dtype)},
      {"observer", optional_text(args.observer)},
      {"observer_kwargs", std::move(kwargs)},
  };
}

Result<QuantizationScheme> scheme_from_value(const std::string& name, const RecipeValue& value) {
  if (auto preset = preset_scheme(name); preset && !value.if_map()) {
    preset->targets = value.texts();
    return *preset;
  }
  std::vector<std::string> warnings;
  TRY_ASSIGN(const Arguments arguments, read_arguments(scheme_rows(), value, {}, warnings));
  QuantizationScheme scheme;
  scheme.targets = arguments.texts("targets");
  const auto fill = [&](std::string_view field, std::optional<QuantizationArgs>& out) -> Status {
    if (arguments.at(field).is_null()) return {};
    TRY_ASSIGN(out, args_from_value(arguments.at(field), field));
    return {};
  };
  TRY(fill("weights", scheme.weights));
  TRY(fill("input_activations", scheme.input_activations));
  TRY(fill("output_activations", scheme.output_activations));
  if (!arguments.at("format").is_null()) scheme.format = arguments.text("format");
  auto format = resolve_format(scheme);
  if (!format.ok()) return std::move(format).error();
  return scheme;
}

RecipeValue scheme_to_value(const QuantizationScheme& scheme) {
  return RecipeValue::Map{
      {"targets", RecipeValue::text_list(scheme.targets)},
      {"weights", args_or_null(scheme.weights)},
      {"input_activations", args_or_null(scheme.input_activations)},
      {"output_activations", args_or_null(scheme.output_activations)},
      {"format", optional_text(scheme.format)},
  };
}

Result<ConfigGroups> groups_from_value(const RecipeValue& value) {
  ConfigGroups groups;
  for (const auto& [name, body] : value.if_map() ? *value.if_map() : RecipeValue::Map{}) {
    auto scheme = scheme_from_value(name, body);
    if (!scheme.ok()) return std::move(scheme).at(name).error();
    groups.emplace_back(name, std::move(scheme).value());
  }
  return groups;
}

RecipeValue groups_to_value(const ConfigGroups& groups) {
  RecipeValue::Map map;
  for (const auto& [name, scheme] : groups) map.emplace_back(name, scheme_to_value(scheme));
  return map;
}

std::string scheme_label(const QuantizationScheme& scheme) {
  const auto bits = [](const std::optional<QuantizationArgs>& args) { return args ? args->num_bits : 16; };
  std::string label = fmt::format("W{}A{}", bits(scheme.weights), bits(scheme.input_activations));
  if (!scheme.weights) return label;
  const QuantizationArgs& args = *scheme.weights;
  label += fmt::format(" {}", to_string(args.strategy.value_or(Strategy::kTensor)));
  if (args.group_size.value_or(-1) > 0) label += fmt::format(" {}", *args.group_size);
  if (args.block_structure)
    label += fmt::format(" {}x{}", (*args.block_structure)[0], (*args.block_structure)[1]);
  if (args.type == NumberType::kFloat) label += " float";
  if (!args.symmetric) label += " asymmetric";
  return label;
}

const std::vector<std::string>& observer_names() {
  static const std::vector<std::string> names{
      "memoryless_minmax",  "static_minmax", "minmax",      "memoryless_mse",         "mse",
      "nvfp4_expanded_mse", "fouroversix",   "imatrix_mse", "nvfp4_expanded_imatrix",
  };
  return names;
}

Status check_observer(std::string_view name) {
  std::string plain(name);  // the reference's registry takes any case, and dashes or underscores
  for (char& c : plain)
    c = c == '-' || c == ' ' ? '_' : c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  for (const std::string& known : observer_names()) {
    if (known == plain) return {};
  }
  return usage_error(
      fmt::format("observer \"{}\" is unknown; allowed are {}", name, join_or(observer_names())),
      did_you_mean(name, observer_names()));
}

}  // namespace nibble
