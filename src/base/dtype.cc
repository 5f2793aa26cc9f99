// SPDX-License-Identifier: Apache-2.0
#include "base/dtype.h"

#include <array>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace nibble {
namespace {

struct DTypeRow {
  DType dtype;
  std::size_t bytes;
  bool is_float;
  std::string_view safetensors;
  std::string_view torch;
};

constexpr std::array<DTypeRow, 16> kRows{{
    {DType::kF64, 8, true, "F64", "float64"},
    {DType::kF32, 4, true, "F32", "float32"},
    {DType::kF16, 2, true, "F16", "float16"},
    {DType::kBF16, 2, true, "BF16", "bfloat16"},
    {DType::kF8E4M3, 1, true, "F8_E4M3", "float8_e4m3fn"},
    {DType::kF8E5M2, 1, true, "F8_E5M2", "float8_e5m2"},
    {DType::kF8E8M0, 1, true, "F8_E8M0", "float8_e8m0fnu"},
    {DType::kI64, 8, false, "I64", "int64"},
    {DType::kI32, 4, false, "I32", "int32"},
    {DType::kI16, 2, false, "I16", "int16"},
    {DType::kI8, 1, false, "I8", "int8"},
    {DType::kU64, 8, false, "U64", "uint64"},
    {DType::kU32, 4, false, "U32", "uint32"},
    {DType::kU16, 2, false, "U16", "uint16"},
    {DType::kU8, 1, false, "U8", "uint8"},
    {DType::kBool, 1, false, "BOOL", "bool"},
}};

const DTypeRow& row(DType dtype) {
  const DTypeRow& found = kRows[static_cast<std::size_t>(dtype)];
  CHECK(found.dtype == dtype, "the dtype table is out of order");
  return found;
}

// Rounds |value| to a format with `mantissa` stored bits and exponent bias `bias`, half to even, subnormals
// included. Returns exponent field and mantissa packed as an integer (it may exceed the format's largest; the
// caller decides).
std::uint32_t round_magnitude(float magnitude, int mantissa, int bias) {
  const auto bits = std::bit_cast<std::uint32_t>(magnitude);
  const int exponent = static_cast<int>(bits >> 23) - 127;
  const int smallest_normal = 1 - bias;
  if (exponent < smallest_normal) {
    // Subnormal in the target: an integer count of 2^(smallest_normal - mantissa); the scaling is exact.
    const double steps = std::ldexp(static_cast<double>(magnitude), mantissa - smallest_normal);
    return static_cast<std::uint32_t>(std::nearbyint(steps));
  }
  const int shift = 23 - mantissa;
  const std::uint32_t rebased = bits - (static_cast<std::uint32_t>(127 - bias) << 23);
  const std::uint32_t half = (1u << (shift - 1)) - 1u + ((rebased >> shift) & 1u);
  return (rebased + half) >> shift;
}

}  // namespace

std::size_t dtype_bytes(DType dtype) {
  return row(dtype).bytes;
}
bool is_float(DType dtype) {
  return row(dtype).is_float;
}
std::string_view safetensors_name(DType dtype) {
  return row(dtype).safetensors;
}
std::string_view torch_name(DType dtype) {
  return row(dtype).torch;
}

std::optional<DType> dtype_from_safetensors(std::string_view name) {
  for (const DTypeRow& r : kRows) {
    if (r.safetensors == name) return r.dtype;
  }
  return std::nullopt;
}

std::optional<DType> dtype_from_torch(std::string_view name) {
  if (name.starts_with("torch.")) name.remove_prefix(6);
  for (const DTypeRow& r : kRows) {
    if (r.torch == name) return r.dtype;
  }
  if (name == "half") return DType::kF16;
  if (name == "float") return DType::kF32;
  return std::nullopt;
}

float f8e5m2_to_f32(std::uint8_t bits) {
  return f16_to_f32(static_cast<std::uint16_t>(bits << 8));
}

std::uint8_t f32_to_f8e5m2(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint8_t>((bits >> 24) & 0x80u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint8_t>(sign | 0x7fu);
  if (magnitude >= 0x47700000u)
    return static_cast<std::uint8_t>(sign | 0x7cu);  // >= 61440 rounds to infinity
  return static_cast<std::uint8_t>(sign | round_magnitude(std::bit_cast<float>(magnitude), 2, 15));
}

float round_to(DType dtype, float value) {
  switch (dtype) {
    case DType::kF32:
      return value;
    case DType::kF16:
      return f16_to_f32(f32_to_f16(value));
    case DType::kBF16:
      return bf16_to_f32(f32_to_bf16(value));
    default:
      break;
  }
  CHECK(false, "round_to takes F32, F16 or BF16");
  return value;
}

}  // namespace nibble
