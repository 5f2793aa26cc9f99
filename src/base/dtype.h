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

// Widening is exact: shifting the fields into fp32 position and multiplying by a power of two rebases the
// exponent and normalises subnormals in one step.
inline float f16_to_f32(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16;
  const std::uint32_t magnitude = std::uint32_t{bits & 0x7fffu} << 13;
  const bool special = (bits & 0x7c00u) == 0x7c00u;  // infinity or NaN
  const auto value = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  return std::bit_cast<float>(sign | (special ? 0x7f800000u | magnitude : value));
}

// Adding 0.5 lines the subnormal steps (2^-24) up with the last bit of the sum: the addition does the
// rounding.
inline std::uint16_t f32_to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  std::uint32_t code = 0;
  if (magnitude > 0x7f800000u) {
    code = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  } else if (magnitude >= 0x477ff000u) {  // 65520 and more
    code = 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // below 2^-14
    code = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    code = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  }
  return static_cast<std::uint16_t>(sign | code);
}

// E4M3 "fn": bias 7, largest 448, no infinity, NaN = 0x7f / 0xff. Values beyond 448 become NaN as in torch's
// cast; quantizers clamp first.
inline float f8e4m3_to_f32(std::uint8_t bits) {
  const std::uint32_t sign = std::uint32_t{bits & 0x80u} << 24;
  const std::uint32_t magnitude = std::uint32_t{bits & 0x7fu} << 20;
  const auto value = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) * 0x1p120f);
  return std::bit_cast<float>(sign | ((bits & 0x7fu) == 0x7fu ? 0x7fc00000u : value));
}

inline std::uint8_t f32_to_f8e4m3(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 24) & 0x80u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  std::uint32_t code = 0x7fu;
  if (magnitude < 0x3c800000u) {  // below 2^-6: steps of 2^-9
    code = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0x1p14f) - 0x46800000u;
  } else if (magnitude < 0x43e80000u) {  // below 464
    code = (magnitude - 0x3c000000u + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20;
  }
  return static_cast<std::uint8_t>(sign | code);
}

float f8e5m2_to_f32(std::uint8_t bits);
std::uint8_t f32_to_f8e5m2(float value);

// E8M0: 2^(bits - 127); 255 is NaN.
inline float f8e8m0_to_f32(std::uint8_t bits) {
  if (bits == 0xffu) return std::bit_cast<float>(0x7fc00000u);
  return std::bit_cast<float>(bits == 0 ? 0x00400000u : std::uint32_t{bits} << 23);
}

// The value after a round trip through `dtype` (F32, F16 or BF16).
float round_to(DType dtype, float value);

}  // namespace nibble
