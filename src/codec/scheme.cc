// SPDX-License-Identifier: Apache-2.0
// Rules that tie quantization arguments together, and the formats on disk (compressed-tensors 0.19:
// quant_args.py, quant_scheme.py, compressors/format.py). Presets are in presets.cc.
#include "codec/scheme.h"

#include <fmt/format.h>

#include <charconv>

#include "base/suggest.h"

namespace nibble {
namespace {

template <class T>
struct Word {
  T value;
  std::string_view text;
};

constexpr std::array kNumberTypes{Word<NumberType>{NumberType::kInt, "int"},
                                  Word<NumberType>{NumberType::kFloat, "float"}};

constexpr std::array kStrategies{
    Word<Strategy>{Strategy::kTensor, "tensor"},      Word<Strategy>{Strategy::kChannel, "channel"},
    Word<Strategy>{Strategy::kGroup, "group"},        Word<Strategy>{Strategy::kBlock, "block"},
    Word<Strategy>{Strategy::kToken, "token"},        Word<Strategy>{Strategy::kTensorGroup, "tensor_group"},
    Word<Strategy>{Strategy::kAttnHead, "attn_head"},
};

// The first spelling of a value is the canonical one.
constexpr std::array kActOrders{
    Word<ActOrder>{ActOrder::kWeight, "weight"},
    Word<ActOrder>{ActOrder::kGroup, "group"},
    Word<ActOrder>{ActOrder::kWeight, "static"},
    Word<ActOrder>{ActOrder::kGroup, "dynamic"},
};

constexpr std::array kFormats{
    Word<CompressionFormat>{CompressionFormat::kDense, "dense"},
    Word<CompressionFormat>{CompressionFormat::kPackQuantized, "pack-quantized"},
    Word<CompressionFormat>{CompressionFormat::kIntQuantized, "int-quantized"},
    Word<CompressionFormat>{CompressionFormat::kFloatQuantized, "float-quantized"},
    Word<CompressionFormat>{CompressionFormat::kNaiveQuantized, "naive-quantized"},
    Word<CompressionFormat>{CompressionFormat::kNvfp4Pack, "nvfp4-pack-quantized"},
    Word<CompressionFormat>{CompressionFormat::kMxfp4Pack, "mxfp4-pack-quantized"},
    Word<CompressionFormat>{CompressionFormat::kMxfp8, "mxfp8-quantized"},
};

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

template <class T, std::size_t N>
std::string_view text_of(const std::array<Word<T>, N>& words, T value) {
  for (const Word<T>& word : words) {
    if (word.value == value) return word.text;
  }
  CHECK(false, "a value without a word");
  return {};
}

template <class T, std::size_t N>
std::optional<T> value_of(const std::array<Word<T>, N>& words, std::string_view text) {
  const std::string wanted = lower(text);
  for (const Word<T>& word : words) {
    if (word.text == wanted) return word.value;
  }
  return std::nullopt;
}

template <class T, std::size_t N>
std::vector<std::string> texts(const std::array<Word<T>, N>& words) {
  std::vector<std::string> out;
  for (const Word<T>& word : words) out.emplace_back(word.text);
  return out;
}

bool is_group_strategy(Strategy strategy) {
  return strategy == Strategy::kGroup || strategy == Strategy::kTensorGroup;
}

Status check_number(const QuantizationArgs& args) {
  if (args.type == NumberType::kInt && (args.num_bits < 1 || args.num_bits > 8)) {
    return usage_error(fmt::format("num_bits is {} for type int; allowed are 1 to 8", args.num_bits));
  }
  if (args.type == NumberType::kFloat && args.num_bits != 4 && args.num_bits != 8) {
    return usage_error(fmt::format("num_bits is {} for type float; allowed are 4 and 8", args.num_bits));
  }
  if (args.type == NumberType::kFloat && !args.symmetric) {
    return usage_error("symmetric is false for type float; float numbers have no zero point",
                       "set symmetric: true, or type: int");
  }
  return {};
}

Status check_group_size(const QuantizationArgs& args) {
  if (args.group_size && (*args.group_size < -1 || *args.group_size == 0)) {
    return usage_error(
        fmt::format("group_size is {}; allowed are a positive number of columns, -1 (one scale a "
                    "row) or null",
                    *args.group_size));
  }
  const Strategy strategy = *args.strategy;
  const bool positive = args.group_size.value_or(0) > 0;
  if (is_group_strategy(strategy) && !positive) {
    return usage_error(fmt::format("strategy {} needs a positive group_size", to_string(strategy)),
                       "for example group_size: 128");
  }
  if (positive && !is_group_strategy(strategy)) {
    return usage_error(
        fmt::format("group_size is {} with strategy {}; only group and tensor_group have groups",
                    *args.group_size, to_string(strategy)),
        "drop group_size, or set strategy: group");
  }
  return {};
}

Status check_block_structure(const QuantizationArgs& args) {
  const bool is_block = args.strategy == Strategy::kBlock;
  if (is_block && !args.block_structure) {
    return usage_error("strategy block needs block_structure", "for example block_structure: [128, 128]");
  }
  if (!is_block && args.block_structure) {
    return usage_error(fmt::format("block_structure is set with strategy {}", to_string(*args.strategy)),
                       "set strategy: block, or drop block_structure");
  }
  if (is_block && ((*args.block_structure)[0] < 1 || (*args.block_structure)[1] < 1)) {
    return usage_error(fmt::format("block_structure is [{}, {}]; both numbers must be positive",
                                   (*args.block_structure)[0], (*args.block_structure)[1]));
  }
  return {};
}

Status check_dynamic(const QuantizationArgs& args, bool is_weights) {
  const Strategy strategy = *args.strategy;
  if (is_weights && args.dynamic != Dynamic::kFalse) {
    return usage_error("weights cannot be dynamic; their scales are stored", "set dynamic: false");
  }
  if (strategy == Strategy::kToken && args.dynamic == Dynamic::kFalse) {
    return usage_error(
        "strategy token needs dynamic: true; a token's scale cannot be known before it is seen");
  }
  if (args.dynamic != Dynamic::kFalse && strategy != Strategy::kToken && strategy != Strategy::kTensor &&
      !is_group_strategy(strategy)) {
    return usage_error(
        fmt::format("strategy {} cannot be dynamic; allowed are token, tensor, group and tensor_group",
                    to_string(strategy)));
  }
  if (args.dynamic == Dynamic::kLocal && strategy != Strategy::kTensorGroup) {
    return usage_error(fmt::format("dynamic is \"local\" with strategy {}; it needs strategy tensor_group",
                                   to_string(strategy)));
  }
  return {};
}

Status check_place(const QuantizationArgs& args, bool is_weights) {
  const Strategy strategy = *args.strategy;
  if (!is_weights && (strategy == Strategy::kChannel || strategy == Strategy::kBlock)) {
    return usage_error(
        fmt::format("strategy {} does not exist for activations; allowed are token, tensor, group, "
                    "tensor_group and attn_head",
                    to_string(strategy)));
  }
  if (!is_weights && args.actorder) {
    return usage_error("actorder is set for activations; only weights have an order of columns");
  }
  if (strategy == Strategy::kTensorGroup && (args.type != NumberType::kFloat || args.num_bits != 4)) {
    return usage_error(
        "strategy tensor_group (a scale a group under one global scale) exists for type float with "
        "num_bits 4 only",
        "use strategy: group");
  }
  if (args.actorder == ActOrder::kGroup && !is_group_strategy(strategy)) {
    return usage_error(
        fmt::format("actorder group needs strategy group or tensor_group, not {}", to_string(strategy)),
        "use actorder: weight");
  }
  return {};
}

// Scales of one byte exist in two forms only; any other combination has no way to be stored.
Status check_scale_dtype(const QuantizationArgs& args) {
  if (!args.scale_dtype) return {};
  switch (*args.scale_dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      return {};
    case DType::kF8E4M3:
      if (args.strategy == Strategy::kTensorGroup) return {};
      return usage_error(
          "scale_dtype float8_e4m3fn needs strategy tensor_group, whose global scale keeps small "
          "scales in range");
    case DType::kU8:
      if (args.is_mx()) return {};
      return usage_error("scale_dtype uint8 (powers of two, MX) needs type float and group_size 32");
    default:
      return usage_error(
          fmt::format("scale_dtype is {}; allowed are null, float32, float16, bfloat16, "
                      "float8_e4m3fn and uint8",
                      torch_name(*args.scale_dtype)));
  }
}

void infer_strategy(QuantizationArgs& args) {
  if (args.strategy) return;
  const bool positive = args.group_size.value_or(0) > 0;
  args.strategy = !args.group_size ? Strategy::kTensor : positive ? Strategy::kGroup : Strategy::kChannel;
}

void infer_rest(QuantizationArgs& args) {
  if (args.dynamic == Dynamic::kTrue) {
    args.observer.reset();
  } else if (!args.observer) {
    args.observer = args.dynamic == Dynamic::kLocal ? "minmax" : "memoryless_minmax";
  }
  if (args.symmetric) {
    args.zp_dtype.reset();
  } else if (!args.zp_dtype) {
    args.zp_dtype = DType::kI8;
  }
  if (!args.actorder) {
    args.actorder_spelling.clear();
  } else if (args.actorder_spelling.empty()) {
    args.actorder_spelling = to_string(*args.actorder);
  }
}

Status check_format(CompressionFormat format, const std::optional<QuantizationArgs>& weights) {
  if (format == CompressionFormat::kDense) return {};
  const auto refuse = [&](std::string_view needs) {
    return usage_error(fmt::format("format {} needs {}", to_string(format), needs),
                       "drop format to let nibble choose it");
  };
  if (!weights) return refuse("quantized weights");
  const bool is_int = weights->type == NumberType::kInt;
  switch (format) {
    case CompressionFormat::kPackQuantized:
    case CompressionFormat::kIntQuantized:
      if (!is_int) return refuse("weights of type int");
      return {};
    case CompressionFormat::kFloatQuantized:
      if (is_int || weights->num_bits != 8) return refuse("weights of type float with 8 bits");
      return {};
    case CompressionFormat::kNaiveQuantized:
      if (!is_int && weights->num_bits != 8) return refuse("weights of type int, or float with 8 bits");
      return {};
    case CompressionFormat::kNvfp4Pack:
      if (!weights->is_nvfp4()) return refuse("float weights of 4 bits with strategy tensor_group");
      return {};
    case CompressionFormat::kMxfp4Pack:
      if (!weights->is_mx() || weights->num_bits != 4) {
        return refuse("float weights of 4 bits with group_size 32 and scale_dtype uint8");
      }
      return {};
    case CompressionFormat::kMxfp8:
      if (!weights->is_mx() || weights->num_bits != 8) {
        return refuse("float weights of 8 bits with group_size 32 and scale_dtype uint8");
      }
      return {};
    case CompressionFormat::kDense:
      break;
  }
  return {};
}

}  // namespace

Status QuantizationArgs::validate(std::string_view field) {
  const bool is_weights = field == "weights";
  QuantizationArgs candidate = *this;
  infer_strategy(candidate);
  TRY(check_number(candidate).at(field));
  TRY(check_group_size(candidate).at(field));
  TRY(check_block_structure(candidate).at(field));
  TRY(check_dynamic(candidate, is_weights).at(field));
  TRY(check_place(candidate, is_weights).at(field));
  TRY(check_scale_dtype(candidate).at(field));
  infer_rest(candidate);
  *this = std::move(candidate);
  return {};
}

bool QuantizationArgs::is_mx() const {
  return type == NumberType::kFloat && group_size == 32 && scale_dtype == DType::kU8;
}

bool QuantizationArgs::is_nvfp4() const {
  return type == NumberType::kFloat && num_bits == 4 && strategy == Strategy::kTensorGroup;
}

double QuantizationArgs::code_min() const {
  if (type == NumberType::kInt) return -static_cast<double>(std::int64_t{1} << (num_bits - 1));
  return num_bits == 8 ? -448.0 : -6.0;
}

double QuantizationArgs::code_max() const {
  if (type == NumberType::kInt) return static_cast<double>((std::int64_t{1} << (num_bits - 1)) - 1);
  return num_bits == 8 ? 448.0 : 6.0;
}

Status QuantizationScheme::validate() {
  if (weights) TRY(weights->validate("weights"));
  if (input_activations) TRY(input_activations->validate("input_activations"));
  if (output_activations) TRY(output_activations->validate("output_activations"));
  const auto found = resolve_format(*this);
  if (!found.ok()) return found.error();
  return {};
}

std::string_view to_string(NumberType type) {
  return text_of(kNumberTypes, type);
}
std::optional<NumberType> number_type_from_string(std::string_view name) {
  return value_of(kNumberTypes, name);
}
std::string_view to_string(Strategy strategy) {
  return text_of(kStrategies, strategy);
}
std::optional<Strategy> strategy_from_string(std::string_view name) {
  return value_of(kStrategies, name);
}
std::string_view to_string(ActOrder order) {
  return text_of(kActOrders, order);
}
std::optional<ActOrder> actorder_from_string(std::string_view name) {
  return value_of(kActOrders, name);
}
std::string_view to_string(CompressionFormat format) {
  return text_of(kFormats, format);
}
std::optional<CompressionFormat> format_from_string(std::string_view name) {
  return value_of(kFormats, name);
}

const std::vector<std::string>& strategy_names() {
  static const std::vector<std::string> names = texts(kStrategies);
  return names;
}

const std::vector<std::string>& format_names() {
  static const std::vector<std::string> names = texts(kFormats);
  return names;
}

Result<std::array<std::int64_t, 2>> block_structure_from_string(std::string_view text) {
  std::array<std::int64_t, 2> block{};
  const char* end = text.data() + text.size();
  const auto rows = std::from_chars(text.data(), end, block[0]);
  const bool has_cross = rows.ec == std::errc{} && rows.ptr != end && (*rows.ptr == 'x' || *rows.ptr == 'X');
  const auto cols = has_cross ? std::from_chars(rows.ptr + 1, end, block[1]) : rows;
  if (!has_cross || cols.ec != std::errc{} || cols.ptr != end) {
    return usage_error(
        fmt::format("block_structure is \"{}\"; allowed are [rows, cols] or \"128x128\"", text));
  }
  return block;
}

CompressionFormat default_format(const QuantizationScheme& scheme) {
  if (!scheme.weights) return CompressionFormat::kDense;
  const QuantizationArgs& weights = *scheme.weights;
  const bool has_inputs = scheme.input_activations.has_value();
  if (weights.type == NumberType::kInt) {
    return has_inputs ? CompressionFormat::kIntQuantized : CompressionFormat::kPackQuantized;
  }
  if (weights.num_bits == 4 && weights.group_size == 32) return CompressionFormat::kMxfp4Pack;
  if (weights.is_mx()) return CompressionFormat::kMxfp8;
  if (weights.num_bits == 4 && weights.group_size == 16) return CompressionFormat::kNvfp4Pack;
  return has_inputs ? CompressionFormat::kFloatQuantized : CompressionFormat::kNaiveQuantized;
}

Result<CompressionFormat> resolve_format(const QuantizationScheme& scheme) {
  CompressionFormat format = default_format(scheme);
  if (scheme.format) {
    const auto named = format_from_string(*scheme.format);
    if (!named) {
      return usage_error(
          fmt::format("format \"{}\" is unknown; allowed are {}", *scheme.format, join_or(format_names())),
          did_you_mean(*scheme.format, format_names()));
    }
    format = *named;
  }
  TRY(check_format(format, scheme.weights));
  return format;
}

}  // namespace nibble
