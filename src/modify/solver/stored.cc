// SPDX-License-Identifier: Apache-2.0
#include "modify/solver/stored.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/convert.h"

namespace nibble {
namespace {

// The nibble of an E2M1 value: sign, then the index of the magnitude.
std::uint8_t fp4_nibble(float value) {
  constexpr std::array<float, 8> kMagnitudes{0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  const auto place = std::ranges::find(kMagnitudes, std::fabs(value));
  CHECK(place != kMagnitudes.end(), "codes are values of the grid");
  const auto index = static_cast<std::uint8_t>(place - kMagnitudes.begin());
  return static_cast<std::uint8_t>(index | (std::signbit(value) ? 8 : 0));
}

}  // namespace

QuantParams solver_params(const WeightParams& params, const QuantizationArgs& args, std::int64_t rows,
                          std::int64_t cols) {
  const UnitGrid units = unit_grid(args, rows, cols);
  QuantParams result{.scale = Matrix(units.grid_rows(), units.grid_cols()),
                     .zero_point = {},
                     .global_scale = params.global_scale.value_or(0)};
  params.scale.decode_f32(0, result.scale.values());
  if (params.zero_point.size() == 0) return result;
  result.zero_point = Matrix(result.scale.rows(), result.scale.cols());
  params.zero_point.decode_f32(0, result.zero_point.values());
  return result;
}

Result<QuantParams> min_max_solver_params(ThreadPool& pool, const Matrix& weight,
                                          const QuantizationArgs& args, DType model_dtype,
                                          float global_scale) {
  const Tensor stored = kernels::to_tensor(pool, model_dtype, weight);
  const std::optional<float> global = global_scale == 0 ? std::nullopt : std::optional(global_scale);
  TRY_ASSIGN(const WeightParams params, min_max_params(pool, stored, args, global));
  return solver_params(params, args, weight.rows(), weight.cols());
}

WeightParams stored_params(const QuantParams& params, const QuantizationArgs& args, DType model_dtype,
                           std::int64_t rows, std::int64_t cols, std::vector<std::int32_t> group_index) {
  const Shape shape = scale_shape(args, rows, cols);
  WeightParams result;
  const DType dtype = params.global_scale == 0 ? model_dtype : DType::kF32;
  result.scale = Tensor::from_f32(dtype, shape, params.scale.values());
  if (params.global_scale != 0) result.global_scale = params.global_scale;
  if (!params.zero_point.empty()) {
    result.zero_point = Tensor(DType::kI8, shape);
    std::ranges::transform(params.zero_point.values(), result.zero_point.as_mutable<std::int8_t>().begin(),
                           [](float zero) { return static_cast<std::int8_t>(zero); });
  }
  result.g_idx = std::move(group_index);
  return result;
}

Tensor stored_codes(const Matrix& codes, const QuantizationArgs& args) {
  Tensor result(code_dtype(args), {codes.rows(), codes.cols()});
  const std::span<std::byte> out = result.mutable_bytes();
  const std::span<const float> values = codes.values();
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint8_t code = 0;
    switch (result.dtype()) {
      case DType::kI8:
        code = static_cast<std::uint8_t>(static_cast<std::int8_t>(values[i]));
        break;
      case DType::kF8E4M3:
        code = f32_to_f8e4m3(values[i]);
        break;
      default:
        code = fp4_nibble(values[i]);
    }
    out[i] = std::byte{code};
  }
  return result;
}

}  // namespace nibble
