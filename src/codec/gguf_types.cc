// SPDX-License-Identifier: Apache-2.0
// The table of GGUF types (ggml 0.25, ggml.h and ggml.c: type_traits).
#include "codec/gguf_types.h"

#include <fmt/format.h>

#include <array>
#include <cstring>

#include "base/dtype.h"
#include "base/file.h"
#include "codec/gguf_decode.h"
#include "codec/gguf_encode.h"

namespace nibble {
namespace {

// Element types are blocks of one.
template <class T>
void decode_numbers(const std::byte* blocks, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, blocks + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
    out[i] = static_cast<float>(value);
  }
}

template <float (*Convert)(std::uint16_t)>
void decode_half(const std::byte* blocks, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, blocks + 2 * i, 2);
    out[i] = Convert(bits);
  }
}

void encode_f32(const float* row, std::int64_t count, const float*, std::byte* out) {
  std::memcpy(out, row, static_cast<std::size_t>(count) * sizeof(float));
}

template <std::uint16_t (*Convert)(float)>
void encode_half(const float* row, std::int64_t count, const float*, std::byte* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint16_t bits = Convert(row[i]);
    std::memcpy(out + 2 * i, &bits, 2);
  }
}

constexpr std::array kTypes{
    GgufTypeInfo{GgufType::kF32, "F32", 1, 4, decode_numbers<float>, encode_f32},
    GgufTypeInfo{GgufType::kF16, "F16", 1, 2, decode_half<f16_to_f32>, encode_half<f32_to_f16>},
    GgufTypeInfo{GgufType::kQ4_0, "Q4_0", 32, 18, gguf::decode_q4_0, gguf::encode_q4_0},
    GgufTypeInfo{GgufType::kQ4_1, "Q4_1", 32, 20, gguf::decode_q4_1, gguf::encode_q4_1},
    GgufTypeInfo{GgufType::kQ5_0, "Q5_0", 32, 22, gguf::decode_q5_0, gguf::encode_q5_0},
    GgufTypeInfo{GgufType::kQ5_1, "Q5_1", 32, 24, gguf::decode_q5_1, gguf::encode_q5_1},
    GgufTypeInfo{GgufType::kQ8_0, "Q8_0", 32, 34, gguf::decode_q8_0, gguf::encode_q8_0},
    GgufTypeInfo{GgufType::kQ8_1, "Q8_1", 32, 36, gguf::decode_q8_1, nullptr},
    GgufTypeInfo{GgufType::kQ2_K, "Q2_K", 256, 84, gguf::decode_q2_k, gguf::encode_q2_k},
    GgufTypeInfo{GgufType::kQ3_K, "Q3_K", 256, 110, gguf::decode_q3_k, gguf::encode_q3_k},
    GgufTypeInfo{GgufType::kQ4_K, "Q4_K", 256, 144, gguf::decode_q4_k, gguf::encode_q4_k},
    GgufTypeInfo{GgufType::kQ5_K, "Q5_K", 256, 176, gguf::decode_q5_k, gguf::encode_q5_k},
    GgufTypeInfo{GgufType::kQ6_K, "Q6_K", 256, 210, gguf::decode_q6_k, gguf::encode_q6_k},
    GgufTypeInfo{GgufType::kQ8_K, "Q8_K", 256, 292, gguf::decode_q8_k, nullptr},
    GgufTypeInfo{GgufType::kIQ2_XXS, "IQ2_XXS", 256, 66, gguf::decode_iq2_xxs, nullptr},
    GgufTypeInfo{GgufType::kIQ2_XS, "IQ2_XS", 256, 74, gguf::decode_iq2_xs, nullptr},
    GgufTypeInfo{GgufType::kIQ3_XXS, "IQ3_XXS", 256, 98, gguf::decode_iq3_xxs, nullptr},
    GgufTypeInfo{GgufType::kIQ1_S, "IQ1_S", 256, 50, gguf::decode_iq1_s, nullptr},
    GgufTypeInfo{GgufType::kIQ4_NL, "IQ4_NL", 32, 18, gguf::decode_iq4_nl, gguf::encode_iq4_nl},
    GgufTypeInfo{GgufType::kIQ3_S, "IQ3_S", 256, 110, gguf::decode_iq3_s, nullptr},
    GgufTypeInfo{GgufType::kIQ2_S, "IQ2_S", 256, 82, gguf::decode_iq2_s, nullptr},
    GgufTypeInfo{GgufType::kIQ4_XS, "IQ4_XS", 256, 136, gguf::decode_iq4_xs, gguf::encode_iq4_xs},
    GgufTypeInfo{GgufType::kI8, "I8", 1, 1, decode_numbers<std::int8_t>, nullptr},
    GgufTypeInfo{GgufType::kI16, "I16", 1, 2, decode_numbers<std::int16_t>, nullptr},
    GgufTypeInfo{GgufType::kI32, "I32", 1, 4, decode_numbers<std::int32_t>, nullptr},
    GgufTypeInfo{GgufType::kI64, "I64", 1, 8, decode_numbers<std::int64_t>, nullptr},
    GgufTypeInfo{GgufType::kF64, "F64", 1, 8, decode_numbers<double>, nullptr},
    GgufTypeInfo{GgufType::kIQ1_M, "IQ1_M", 256, 56, gguf::decode_iq1_m, nullptr},
    GgufTypeInfo{GgufType::kBF16, "BF16", 1, 2, decode_half<bf16_to_f32>, encode_half<f32_to_bf16>},
    GgufTypeInfo{GgufType::kTQ1_0, "TQ1_0", 256, 54, gguf::decode_tq1_0, gguf::encode_tq1_0},
    GgufTypeInfo{GgufType::kTQ2_0, "TQ2_0", 256, 66, gguf::decode_tq2_0, gguf::encode_tq2_0},
    GgufTypeInfo{GgufType::kMXFP4, "MXFP4", 32, 17, gguf::decode_mxfp4, gguf::encode_mxfp4},
    GgufTypeInfo{GgufType::kNVFP4, "NVFP4", 64, 36, gguf::decode_nvfp4, gguf::encode_nvfp4},
};

}  // namespace

std::span<const GgufTypeInfo> gguf_types() {
  return kTypes;
}

const GgufTypeInfo* find_gguf_type(std::uint32_t id) {
  for (const GgufTypeInfo& info : kTypes) {
    if (static_cast<std::uint32_t>(info.type) == id) return &info;
  }
  return nullptr;
}

const GgufTypeInfo* find_gguf_type(std::string_view name) {
  const auto upper = [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; };
  for (const GgufTypeInfo& info : kTypes) {
    bool same = info.name.size() == name.size();
    for (std::size_t i = 0; same && i < name.size(); ++i) same = info.name[i] == upper(name[i]);
    if (same) return &info;
  }
  return nullptr;
}

const GgufTypeInfo& gguf_type_info(GgufType type) {
  const GgufTypeInfo* info = find_gguf_type(static_cast<std::uint32_t>(type));
  CHECK(info != nullptr, "a GgufType without a row");
  return *info;
}

Result<std::uint64_t> gguf_bytes(const GgufTypeInfo& type, std::uint64_t elements) {
  const auto block_size = static_cast<std::uint64_t>(type.block_size);
  if (elements % block_size != 0) {
    return bad_data(fmt::format("{} elements are not whole blocks of {} ({} elements each)", elements,
                                type.name, block_size));
  }
  return checked_multiply(elements / block_size, static_cast<std::uint64_t>(type.block_bytes));
}

void decode_gguf_rows(GgufType type, std::span<const std::byte> bytes, std::span<float> out) {
  const GgufTypeInfo& info = gguf_type_info(type);
  const auto elements = static_cast<std::int64_t>(out.size());
  const std::int64_t blocks = elements / info.block_size;
  CHECK(blocks * info.block_size == elements, "not whole blocks");
  CHECK(static_cast<std::int64_t>(bytes.size()) == blocks * info.block_bytes, "bytes and elements disagree");
  info.decode(bytes.data(), blocks, out.data());
}

void encode_gguf_row(GgufType type, std::span<const float> row, std::span<const float> importance,
                     std::span<std::byte> out) {
  const GgufTypeInfo& info = gguf_type_info(type);
  const auto count = static_cast<std::int64_t>(row.size());
  CHECK(info.encode != nullptr, "a type that is read only");
  CHECK(count % info.block_size == 0, "not whole blocks");
  CHECK(static_cast<std::int64_t>(out.size()) == count / info.block_size * info.block_bytes,
        "bytes and row disagree");
  CHECK(importance.empty() || importance.size() == row.size(), "one importance a column");
  info.encode(row.data(), count, importance.empty() ? nullptr : importance.data(), out.data());
}

}  // namespace nibble
