// SPDX-License-Identifier: Apache-2.0
// Element types of stored tensors, and exact scalar conversions of the small floating-point formats.
// Every conversion to a narrower format rounds half to even (design.md, decision 10).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace nibble {

enum class DType : std::uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool,
};

std::size_t dtype_bytes(DType dtype);
bool is_float(DType dtype);
// The name in a safetensors header: "BF16", "F8_E4M3", "I64".
std::string_view safetensors_name(DType dtype);
std::optional<DType> dtype_from_safetensors(std::string_view name);
// The name in a Hugging Face configuration: "bfloat16", "float32". Accepts a leading "torch.".
std::string_view torch_name(DType dtype);
std::optional<DType> dtype_from_torch(std::string_view name);

inline float bf16_to_f32(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

// NaN stays NaN (quiet); overflow rounds to infinity.
inline std::uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float f16_to_f32(std::uint16_t bits);
std::uint16_t f32_to_f16(float value);
// E4M3 "fn": bias 7, largest 448, no infinity, NaN = 0x7f / 0xff. Values beyond 448 become NaN as in torch's
// cast; quantizers clamp first.
float f8e4m3_to_f32(std::uint8_t bits);
std::uint8_t f32_to_f8e4m3(float value);
float f8e5m2_to_f32(std::uint8_t bits);
std::uint8_t f32_to_f8e5m2(float value);
// E8M0: 2^(bits - 127); 255 is NaN.
float f8e8m0_to_f32(std::uint8_t bits);

// The value after a round trip through `dtype` (F32, F16 or BF16).
float round_to(DType dtype, float value);

}  // namespace nibble
