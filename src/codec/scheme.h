// SPDX-License-Identifier: Apache-2.0
// Quantization arguments and schemes, with the words and rules of compressed-tensors (reference:
// QuantizationArgs, QuantizationScheme, preset schemes).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/dtype.h"
#include "base/error.h"

namespace nibble {

enum class NumberType { kInt, kFloat };
enum class Strategy { kTensor, kChannel, kGroup, kBlock, kToken, kTensorGroup, kAttnHead };
enum class Dynamic { kFalse, kTrue, kLocal };
enum class ActOrder { kWeight, kGroup };  // `static` is spelled weight, `dynamic` is spelled group

using ObserverValue = std::variant<bool, std::int64_t, double, std::string>;

struct QuantizationArgs {
  int num_bits = 8;
  NumberType type = NumberType::kInt;
  bool symmetric = true;
  std::optional<std::int64_t> group_size;
  std::optional<Strategy> strategy;  // always set after validate()
  std::optional<std::array<std::int64_t, 2>> block_structure;
  Dynamic dynamic = Dynamic::kFalse;
  std::optional<ActOrder> actorder;
  std::string actorder_spelling;  // as the user wrote it: "static", "weight", "group", "dynamic"
  std::optional<DType> scale_dtype;
  std::optional<DType> zp_dtype;
  std::optional<std::string> observer;
  std::map<std::string, ObserverValue> observer_kwargs;

  bool operator==(const QuantizationArgs&) const = default;
  // Fills inferred fields and checks the rules that tie fields together; `field` names the place and decides
  // which rules hold: "weights", "input_activations", "output_activations" or "kv_cache_scheme". Afterwards
  // `strategy` is set, `observer` is null exactly when nothing is observed (dynamic true), and `zp_dtype`
  // exactly when symmetric. Calling it again changes nothing.
  Status validate(std::string_view field);

  bool is_mx() const;       // E8M0 scales
  bool is_nvfp4() const;    // fp4 codes, E4M3 scales, one fp32 global scale
  double code_min() const;  // -8, -128, -448, -6
  double code_max() const;
};

struct QuantizationScheme {
  std::vector<std::string> targets{"Linear"};
  std::optional<QuantizationArgs> weights;
  std::optional<QuantizationArgs> input_activations;
  std::optional<QuantizationArgs> output_activations;
  std::optional<std::string> format;  // forced compression format

  bool operator==(const QuantizationScheme&) const = default;
  // Validates the three argument sets and that the forced format can hold the weights.
  Status validate();
};

// A preset by its name, without regard to case ("W4A16", "FP8_DYNAMIC"); nullopt when there is none.
std::optional<QuantizationScheme> preset_scheme(std::string_view name);
const std::vector<std::string>& preset_names();

// Words of the fields, read without regard to case; the lists are for error messages.
std::string_view to_string(NumberType type);
std::optional<NumberType> number_type_from_string(std::string_view name);
std::string_view to_string(Strategy strategy);
std::optional<Strategy> strategy_from_string(std::string_view name);
const std::vector<std::string>& strategy_names();
std::string_view to_string(ActOrder order);                           // "weight", "group"
std::optional<ActOrder> actorder_from_string(std::string_view name);  // also "static", "dynamic"
// "128x128"; the error says what is allowed.
Result<std::array<std::int64_t, 2>> block_structure_from_string(std::string_view text);

// How a quantized linear lies on disk.
enum class CompressionFormat {
  kDense,
  kPackQuantized,
  kIntQuantized,
  kFloatQuantized,
  kNaiveQuantized,
  kNvfp4Pack,
  kMxfp4Pack,
  kMxfp8,
};
constexpr bool is_fp4(CompressionFormat format) {
  return format == CompressionFormat::kNvfp4Pack || format == CompressionFormat::kMxfp4Pack;
}
std::string_view to_string(CompressionFormat format);  // "pack-quantized"
std::optional<CompressionFormat> format_from_string(std::string_view name);
const std::vector<std::string>& format_names();
// The format the reference chooses for a scheme (compressed-tensors format.py, first match wins).
CompressionFormat default_format(const QuantizationScheme& scheme);
// The forced format when there is one, else default_format; an error when it cannot hold the weights.
Result<CompressionFormat> resolve_format(const QuantizationScheme& scheme);

}  // namespace nibble
