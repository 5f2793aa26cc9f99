// SPDX-License-Identifier: Apache-2.0
// The preset schemes of compressed-tensors (quant_scheme.py): one row a preset.
#include <array>

#include "codec/scheme.h"

namespace nibble {
namespace {

enum class Weights { kNone, kGroup128, kGroup128Asym, kChannel, kTensor, kBlock128, kNvfp4, kMx };
enum class Inputs { kNone, kToken, kTensorStatic, kGroup128, kNvfp4, kMx };

struct PresetRow {
  std::string_view name;
  Weights weights;
  NumberType weight_type;
  int weight_bits;
  Inputs inputs;
  NumberType input_type;
  int input_bits;
};

constexpr NumberType kI = NumberType::kInt;
constexpr NumberType kF = NumberType::kFloat;

constexpr PresetRow weight_only(std::string_view name, Weights weights, NumberType type, int bits) {
  return {name, weights, type, bits, Inputs::kNone, kI, 8};
}

constexpr std::array kRows{
    weight_only("UNQUANTIZED", Weights::kNone, kI, 8),
    weight_only("W2A16", Weights::kGroup128, kI, 2),
    weight_only("W3A16", Weights::kGroup128, kI, 3),
    weight_only("W4A16", Weights::kGroup128, kI, 4),
    weight_only("W5A16", Weights::kGroup128, kI, 5),
    weight_only("W6A16", Weights::kGroup128, kI, 6),
    weight_only("W7A16", Weights::kGroup128, kI, 7),
    weight_only("W8A16", Weights::kGroup128, kI, 8),
    weight_only("W4A16_ASYM", Weights::kGroup128Asym, kI, 4),
    PresetRow{"W2A8", Weights::kGroup128, kI, 2, Inputs::kToken, kI, 8},
    PresetRow{"W3A8", Weights::kGroup128, kI, 3, Inputs::kToken, kI, 8},
    PresetRow{"W4A8", Weights::kGroup128, kI, 4, Inputs::kToken, kI, 8},
    PresetRow{"W5A8", Weights::kGroup128, kI, 5, Inputs::kToken, kI, 8},
    PresetRow{"W6A8", Weights::kGroup128, kI, 6, Inputs::kToken, kI, 8},
    PresetRow{"W7A8", Weights::kGroup128, kI, 7, Inputs::kToken, kI, 8},
    PresetRow{"W2A4", Weights::kGroup128, kI, 2, Inputs::kToken, kI, 4},
    PresetRow{"W3A4", Weights::kGroup128, kI, 3, Inputs::kToken, kI, 4},
    PresetRow{"W4A4", Weights::kGroup128, kI, 4, Inputs::kToken, kI, 4},
    PresetRow{"W8A8", Weights::kChannel, kI, 8, Inputs::kToken, kI, 8},
    PresetRow{"INT8", Weights::kChannel, kI, 8, Inputs::kToken, kI, 8},
    PresetRow{"W4AFP8", Weights::kGroup128, kI, 4, Inputs::kToken, kF, 8},
    PresetRow{"FP8", Weights::kTensor, kF, 8, Inputs::kTensorStatic, kF, 8},
    PresetRow{"FP8_DYNAMIC", Weights::kChannel, kF, 8, Inputs::kToken, kF, 8},
    PresetRow{"FP8_BLOCK", Weights::kBlock128, kF, 8, Inputs::kGroup128, kF, 8},
    weight_only("NVFP4A16", Weights::kNvfp4, kF, 4),
    PresetRow{"NVFP4", Weights::kNvfp4, kF, 4, Inputs::kNvfp4, kF, 4},
    weight_only("MXFP4A16", Weights::kMx, kF, 4),
    PresetRow{"MXFP4", Weights::kMx, kF, 4, Inputs::kMx, kF, 4},
    weight_only("MXFP8A16", Weights::kMx, kF, 8),
    PresetRow{"MXFP8", Weights::kMx, kF, 8, Inputs::kMx, kF, 8},
};

void set_groups(QuantizationArgs& args, Strategy strategy, std::int64_t size,
                std::optional<DType> scale_dtype = {}) {
  args.strategy = strategy;
  args.group_size = size;
  args.scale_dtype = scale_dtype;
}

QuantizationArgs weight_args(const PresetRow& row) {
  QuantizationArgs args;
  args.num_bits = row.weight_bits;
  args.type = row.weight_type;
  switch (row.weights) {
    case Weights::kNone:
      break;
    case Weights::kGroup128Asym:
      args.symmetric = false;
      [[fallthrough]];
    case Weights::kGroup128:
      set_groups(args, Strategy::kGroup, 128);
      break;
    case Weights::kChannel:
      args.strategy = Strategy::kChannel;
      break;
    case Weights::kTensor:
      args.strategy = Strategy::kTensor;
      break;
    case Weights::kBlock128:
      args.strategy = Strategy::kBlock;
      args.block_structure = {128, 128};
      break;
    case Weights::kNvfp4:
      set_groups(args, Strategy::kTensorGroup, 16, DType::kF8E4M3);
      break;
    case Weights::kMx:
      set_groups(args, Strategy::kGroup, 32, DType::kU8);
      break;
  }
  return args;
}

QuantizationArgs input_args(const PresetRow& row) {
  QuantizationArgs args;
  args.num_bits = row.input_bits;
  args.type = row.input_type;
  args.dynamic = Dynamic::kTrue;
  switch (row.inputs) {
    case Inputs::kNone:
      break;
    case Inputs::kToken:
      args.strategy = Strategy::kToken;
      break;
    case Inputs::kTensorStatic:
      args.strategy = Strategy::kTensor;
      args.dynamic = Dynamic::kFalse;
      args.observer = "static_minmax";
      break;
    case Inputs::kGroup128:
      set_groups(args, Strategy::kGroup, 128);
      break;
    case Inputs::kNvfp4:
      set_groups(args, Strategy::kTensorGroup, 16, DType::kF8E4M3);
      args.dynamic = Dynamic::kLocal;
      args.observer = "static_minmax";
      break;
    case Inputs::kMx:
      set_groups(args, Strategy::kGroup, 32, DType::kU8);
      break;
  }
  return args;
}

bool same_name(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const char upper = b[i] >= 'a' && b[i] <= 'z' ? static_cast<char>(b[i] - 'a' + 'A') : b[i];
    if (a[i] != upper) return false;
  }
  return true;
}

}  // namespace

std::optional<QuantizationScheme> preset_scheme(std::string_view name) {
  for (const PresetRow& row : kRows) {
    if (!same_name(row.name, name)) continue;
    QuantizationScheme scheme;
    if (row.weights != Weights::kNone) scheme.weights = weight_args(row);
    if (row.inputs != Inputs::kNone) scheme.input_activations = input_args(row);
    CHECK(scheme.validate().ok(), "a preset breaks the rules");
    return scheme;
  }
  return std::nullopt;
}

const std::vector<std::string>& preset_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const PresetRow& row : kRows) out.emplace_back(row.name);
    return out;
  }();
  return names;
}

}  // namespace nibble
