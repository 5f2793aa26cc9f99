// SPDX-License-Identifier: Apache-2.0
#include "kernels/convert.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "kernels/convert/table.h"
#include "kernels/level_table.h"

namespace nibble::kernels {

namespace convert {
const Kernels& kernels() {
#if defined(__x86_64__)
  static constexpr LevelTable<Kernels> kTables{&kPortable, &kAvx2, &kAvx512, nullptr};
#else
  static constexpr LevelTable<Kernels> kTables{&kPortable, nullptr, nullptr, nullptr};
#endif
  return pick_level(kTables);
}
}  // namespace convert

namespace {

constexpr std::int64_t kChunk = std::int64_t{1} << 15;

const convert::Format* find_format(DType dtype) {
  const convert::Kernels& kernel = convert::kernels();
  switch (dtype) {
    case DType::kF16:
      return &kernel.f16;
    case DType::kBF16:
      return &kernel.bf16;
    case DType::kF8E4M3:
      return &kernel.f8e4m3;
    case DType::kF8E5M2:
      return &kernel.f8e5m2;
    default:
      return nullptr;
  }
}

const convert::Format& format_of(DType dtype) {
  const convert::Format* format = find_format(dtype);
  CHECK(format != nullptr, "not a float format with bulk conversion");
  return *format;
}

}  // namespace

bool is_convertible(DType dtype) {
  return dtype == DType::kF32 || find_format(dtype) != nullptr;
}

void decode_to_f32(ThreadPool& pool, DType from, const std::byte* bytes, std::int64_t count, float* out) {
  if (count <= 0) return;
  if (from == DType::kF32) {
    std::memcpy(out, bytes, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  const convert::Format& format = format_of(from);
  const auto size = static_cast<std::int64_t>(dtype_bytes(from));
  pool.parallel_for(count, kChunk, [&](std::int64_t first, std::int64_t last) {
    format.decode(bytes + first * size, last - first, out + first);
  });
}

void encode_from_f32(ThreadPool& pool, DType to, const float* values, std::int64_t count, std::byte* bytes) {
  if (count <= 0) return;
  if (to == DType::kF32) {
    std::memcpy(bytes, values, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  const convert::Format& format = format_of(to);
  const auto size = static_cast<std::int64_t>(dtype_bytes(to));
  pool.parallel_for(count, kChunk, [&](std::int64_t first, std::int64_t last) {
    format.encode(values + first, last - first, bytes + first * size);
  });
}

void round_through(ThreadPool& pool, DType dtype, float* values, std::int64_t count) {
  if (dtype == DType::kF32) return;
  const convert::Format& format = format_of(dtype);
  pool.parallel_for(count, kChunk, [&](std::int64_t first, std::int64_t last) {
    std::array<std::uint16_t, 1024> codes;
    const auto step = static_cast<std::int64_t>(codes.size());
    for (std::int64_t i = first; i < last; i += step) {
      const std::int64_t n = std::min(step, last - i);
      format.encode(values + i, n, codes.data());
      format.decode(codes.data(), n, values + i);
    }
  });
}

Tensor to_tensor(ThreadPool& pool, DType dtype, const Matrix& m) {
  Tensor result = Tensor::for_overwrite(dtype, {m.rows(), m.cols()});
  encode_from_f32(pool, dtype, m.data(), m.rows() * m.cols(), result.mutable_bytes().data());
  return result;
}

void decode(ThreadPool& pool, const Tensor& tensor, Matrix& out) {
  CHECK(tensor.size() == out.rows() * out.cols(), "the matrix has as many elements");
  decode_to_f32(pool, tensor.dtype(), tensor.bytes().data(), tensor.size(), out.data());
}

}  // namespace nibble::kernels
