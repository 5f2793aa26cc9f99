// SPDX-License-Identifier: Apache-2.0
#include "codec/qparams.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace nibble {
namespace {

struct FloatLayout {
  int mantissa;
  int bias;
  int exponent_ones;
};

FloatLayout layout_of(DType dtype) {
  if (dtype == DType::kF16) return {10, 15, 31};
  return {dtype == DType::kBF16 ? 7 : 23, 127, 255};
}

std::uint32_t bits_of(DType dtype, float value) {
  if (dtype == DType::kF16) return f32_to_f16(value);
  if (dtype == DType::kBF16) return f32_to_bf16(value);
  return std::bit_cast<std::uint32_t>(value);
}

// The biased E8M0 exponent: absmax is rounded to a power of two, up from 1.75 * 2^e (an FP4 code can
// reach 1.5 times its leading power), and the exponent of the largest code is taken off. Subnormal absmax
// counts as zero.
int mx_exponent(DType dtype, float absmax, int offset) {
  const FloatLayout layout = layout_of(dtype);
  const std::uint32_t bits = bits_of(dtype, absmax) + (1u << (layout.mantissa - 2));
  const int field = static_cast<int>(bits >> layout.mantissa);
  if (field == 0) return 0;
  if (field >= layout.exponent_ones) return 255;
  return std::clamp(127 + field - layout.bias - offset, 0, 255);
}

float power_of_exponent(DType dtype, int exponent) {
  return round_to(dtype, std::ldexp(1.0f, exponent - 127));
}

// What replaces a scale of 0.
float epsilon_of(DType dtype) {
  switch (dtype) {
    case DType::kF8E4M3:
      return 0.125f;
    case DType::kU8:
      return 1.0f;
    case DType::kBF16:
      return 0x1p-7f;
    case DType::kF16:
      return 0x1p-10f;
    default:
      return 0x1p-23f;
  }
}

float limit(float value, float bound) {
  return std::min(std::max(value, -bound), bound);
}

}  // namespace

UnitGrid unit_grid(const QuantizationArgs& args, std::int64_t rows, std::int64_t cols) {
  UnitGrid grid{rows, cols, std::max<std::int64_t>(rows, 1), std::max<std::int64_t>(cols, 1)};
  switch (args.strategy.value_or(Strategy::kTensor)) {
    case Strategy::kTensor:
    case Strategy::kAttnHead:
      break;
    case Strategy::kChannel:
    case Strategy::kToken:
      grid.unit_rows = 1;
      break;
    case Strategy::kGroup:
    case Strategy::kTensorGroup:
      grid.unit_rows = 1;
      grid.unit_cols = *args.group_size;
      break;
    case Strategy::kBlock:
      grid.unit_rows = (*args.block_structure)[0];
      grid.unit_cols = (*args.block_structure)[1];
      break;
  }
  return grid;
}

Shape scale_shape(const QuantizationArgs& args, std::int64_t rows, std::int64_t cols) {
  if (args.strategy == Strategy::kTensor) return {1};
  if (args.strategy == Strategy::kAttnHead) return {1, 1, 1};
  const UnitGrid grid = unit_grid(args, rows, cols);
  return {grid.grid_rows(), grid.grid_cols()};
}

float global_scale_of(DType dtype, float min, float max) {
  // The reference divides a number by a tensor, which is a reciprocal and a product, each rounded.
  const float absmax = std::max(std::fabs(min), std::fabs(max));
  const float scale = round_to(dtype, round_to(dtype, 1.0f / absmax) * (448.0f * 6.0f));
  return std::isfinite(scale) && !std::isnan(min) && !std::isnan(max) ? scale : 1.0f;
}

ScaleRule::ScaleRule(const QuantizationArgs& args, DType dtype, std::optional<float> global_scale)
    : dtype_(dtype),
      storage_(args.scale_dtype),
      global_scale_(global_scale),
      code_min_(static_cast<float>(args.code_min())),
      code_max_(static_cast<float>(args.code_max())),
      epsilon_(epsilon_of(args.scale_dtype.value_or(global_scale ? DType::kF32 : dtype))),
      mx_offset_(args.is_mx() ? (args.num_bits == 4 ? 2 : 8) : 0),
      symmetric_(args.symmetric) {}

float ScaleRule::symmetric_scale(float min, float max) const {
  const float absmax = std::max(std::fabs(min), std::fabs(max));
  return round_to(dtype_, absmax / ((code_max_ - code_min_) / 2));
}

float ScaleRule::to_storage(float scale) const {
  switch (*storage_) {
    case DType::kF8E4M3:
      return f8e4m3_to_f32(f32_to_f8e4m3(limit(scale, 448.0f)));
    case DType::kF16:
      return round_to(scale_dtype(), round_to(DType::kF16, limit(scale, 65504.0f)));
    case DType::kBF16:
      return round_to(scale_dtype(), round_to(DType::kBF16, limit(scale, 0x1.fep127f)));
    default:
      return scale;
  }
}

ScaleZero ScaleRule::operator()(float min, float max) const {
  // Zero is always on the grid. NaN passes through: std::min and std::max keep a NaN first argument.
  min = std::min(min, 0.0f);
  max = std::max(max, 0.0f);
  if (mx_offset_ != 0) {
    const int exponent = mx_exponent(dtype_, std::max(std::fabs(min), std::fabs(max)), mx_offset_);
    const float scale = power_of_exponent(dtype_, exponent);
    return {scale == 0 ? epsilon_ : scale, 0.0f};
  }
  float scale = 0;
  float zero_point = 0;
  if (symmetric_) {
    scale = symmetric_scale(min, max);
  } else {
    scale = round_to(dtype_, round_to(dtype_, max - min) / (code_max_ - code_min_));
    const float zero = round_to(dtype_, code_min_ - round_to(dtype_, min / scale));
    zero_point = std::isnan(zero) ? 0.0f : std::nearbyint(std::clamp(zero, code_min_, code_max_));
  }
  if (global_scale_) scale = *global_scale_ * scale;
  if (storage_) scale = to_storage(scale);
  return {scale == 0 ? epsilon_ : scale, zero_point};
}

std::uint8_t e8m0_from_scale(float scale) {
  const auto field = (std::bit_cast<std::uint32_t>(scale) >> 23) & 0xffu;
  return static_cast<std::uint8_t>(field);
}

}  // namespace nibble
