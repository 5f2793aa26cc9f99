// SPDX-License-Identifier: Apache-2.0
#include "modify/solver/grid.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

namespace nibble::solver {
namespace {

// A scale of 0 is replaced by the smallest step of its type at 1 (compressed-tensors
// calculate_qparams).
float smallest_scale(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return 0x1p-7f;
    case DType::kF16:
      return 0x1p-10f;
    default:
      return 0x1p-23f;
  }
}

float nearest_power_of_two(float wanted) {
  if (!(wanted > 0)) return 1.0f;
  int exponent = 0;
  const float fraction = std::frexp(wanted, &exponent);  // [0.5, 1)
  if (fraction > 0.70710678f) ++exponent;
  return std::ldexp(1.0f, std::clamp(exponent - 1, -126, 127));
}

}  // namespace

CodeGrid code_grid(const QuantizationArgs& args) {
  if (args.type == NumberType::kInt) {
    return {.lowest = static_cast<float>(args.code_min()), .highest = static_cast<float>(args.code_max())};
  }
  if (args.num_bits == 4) return {.lowest = -6.0f, .highest = 6.0f, .min_normal = 1.0f, .ratio = 0.5f};
  return {.lowest = -448.0f, .highest = 448.0f, .min_normal = 0x1p-6f, .ratio = 0.125f};
}

ProductFormat product_format(DType model_dtype, bool has_global_scale) {
  if (has_global_scale) return {};
  switch (model_dtype) {
    case DType::kBF16:
      return {.min_normal = 0x1p-120f, .ratio = 0x1p-7f};
    case DType::kF16:
      return {.min_normal = 0x1p-14f, .ratio = 0x1p-10f};
    default:
      return {};
  }
}

namespace {

constexpr float kMagic =
    12582912.0f;  // 1.5 * 2^23: adding and subtracting it rounds to an integer, half to even

float round_to_steps(float value, float min_normal, float ratio) {
  const float power = std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) & 0x7f800000u);
  const float magic = std::max(power, min_normal) * ratio * kMagic;
  return (value + magic) - magic;
}

}  // namespace

float round_product(float value, const ProductFormat& format) {
  return format.min_normal == 0 ? value : round_to_steps(value, format.min_normal, format.ratio);
}

float round_weight(float weight, float scale, float zero, const CodeGrid& grid,
                   const ProductFormat& product) {
  const float x = std::clamp(weight / scale + zero, grid.lowest, grid.highest);
  const float code =
      grid.min_normal == 0 ? (x + kMagic) - kMagic : round_to_steps(x, grid.min_normal, grid.ratio);
  return round_product((code - zero) * scale, product);
}

Result<Units> units_of(const QuantizationArgs& args, std::int64_t rows, std::int64_t cols) {
  Units units{.rows = rows, .cols = cols, .unit_rows = 1, .unit_cols = cols};
  switch (args.strategy.value_or(Strategy::kTensor)) {
    case Strategy::kTensor:
      units.unit_rows = rows;
      return units;
    case Strategy::kChannel:
      return units;
    case Strategy::kGroup:
    case Strategy::kTensorGroup:
      CHECK(args.group_size.value_or(0) > 0, "validated group schemes have a group size");
      units.unit_cols = std::min(*args.group_size, cols);
      return units;
    case Strategy::kBlock:
      CHECK(args.block_structure.has_value(), "validated block schemes have a block structure");
      units.unit_rows = (*args.block_structure)[0];
      units.unit_cols = (*args.block_structure)[1];
      return units;
    default:
      return usage_error(
          fmt::format("strategy {} does not apply to weights (allowed: tensor, channel, group, "
                      "tensor_group, block)",
                      to_string(*args.strategy)));
  }
}

float ScaleStorage::stored(float wanted) const {
  switch (kind) {
    case Kind::kE8M0:
      return nearest_power_of_two(std::fabs(wanted));
    case Kind::kE4M3: {
      const float raw = global_scale == 0 ? wanted : wanted * global_scale;
      const float value = f8e4m3_to_f32(f32_to_f8e4m3(std::clamp(raw, -448.0f, 448.0f)));
      return value == 0 ? 0.125f : value;
    }
    case Kind::kFloat:
      break;
  }
  const float value = round_to(dtype, wanted);
  return value == 0 || !std::isfinite(value) ? smallest_scale(dtype) : value;
}

ScaleStorage scale_storage(const QuantizationArgs& args, DType model_dtype, float global_scale) {
  if (args.is_mx()) return {.kind = ScaleStorage::Kind::kE8M0};
  if (args.scale_dtype == DType::kF8E4M3) {
    return {.kind = ScaleStorage::Kind::kE4M3, .global_scale = global_scale};
  }
  return {.dtype = args.scale_dtype.value_or(model_dtype), .global_scale = global_scale};
}

Result<LayerGrid> layer_grid(const QuantizationArgs& args, std::int64_t rows, std::int64_t cols,
                             DType model_dtype, float global_scale) {
  TRY_ASSIGN(const Units units, units_of(args, rows, cols));
  return LayerGrid{.units = units,
                   .codes = code_grid(args),
                   .product = product_format(model_dtype, global_scale != 0),
                   .storage = scale_storage(args, model_dtype, global_scale),
                   .symmetric = args.symmetric};
}

UnitScale scale_for_range(const LayerGrid& grid, float low, float high) {
  const float span = grid.codes.highest - grid.codes.lowest;
  UnitScale unit;
  unit.stored = grid.storage.stored(grid.symmetric ? std::max(-low, high) / (span / 2) : (high - low) / span);
  unit.scale = grid.storage.effective_of_stored(unit.stored);
  if (!grid.symmetric) {
    unit.zero = std::clamp(std::nearbyint(grid.codes.lowest - low / unit.scale), grid.codes.lowest,
                           grid.codes.highest);
  }
  return unit;
}

}  // namespace nibble::solver
