// SPDX-License-Identifier: Apache-2.0
#include "base/tensor.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

namespace nibble {
namespace {

// Matrices of this size lie on huge pages where the system has them: a fault for every 4 KiB of a fresh
// matrix costs more than filling it.
constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::byte* allocate_bytes(std::size_t bytes) {
  const std::size_t alignment = bytes >= 2 * kHugePage ? kHugePage : kAlignment;
  const std::size_t padded = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, padded == 0 ? alignment : padded);
  if (memory == nullptr) throw std::bad_alloc();
  if (alignment == kHugePage) ::madvise(memory, padded, MADV_HUGEPAGE);
#ifndef NDEBUG
  std::memset(memory, 0xFF, bytes);  // NaN to whoever reads what was not written
#endif
  return static_cast<std::byte*>(memory);
}

std::shared_ptr<std::byte> share_bytes(std::size_t bytes) {
  return {allocate_bytes(bytes), [](std::byte* p) { std::free(p); }};
}

template <class T, class Decode>
void decode_as(const std::byte* data, std::span<float> out, Decode decode) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, data + i * sizeof(T), sizeof(T));
    out[i] = decode(value);
  }
}

}  // namespace

std::int64_t element_count(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

std::shared_ptr<std::byte> allocate_aligned(std::size_t bytes) {
  std::shared_ptr<std::byte> memory = share_bytes(bytes);
  std::memset(memory.get(), 0, bytes);
  return memory;
}

Tensor Tensor::for_overwrite(DType dtype, Shape shape) {
  const std::size_t bytes = static_cast<std::size_t>(element_count(shape)) * dtype_bytes(dtype);
  const std::shared_ptr<std::byte> memory = share_bytes(bytes);
  Tensor result(dtype, std::move(shape), memory.get(), memory);
  result.writable_ = memory.get();
  return result;
}

Tensor::Tensor(DType dtype, Shape shape) : Tensor(for_overwrite(dtype, std::move(shape))) {
  if (byte_size() > 0) std::memset(writable_, 0, byte_size());
}

Tensor::Tensor(DType dtype, Shape shape, const std::byte* bytes, std::shared_ptr<const void> keeper)
    : dtype_(dtype), shape_(std::move(shape)), keeper_(std::move(keeper)), data_(bytes) {}

std::span<std::byte> Tensor::mutable_bytes() {
  CHECK(is_owned(), "a view of a file is read-only");
  return {writable_, byte_size()};
}

Tensor Tensor::reshaped(Shape shape) const {
  CHECK(element_count(shape) == size(), "reshape keeps the number of elements");
  Tensor result = *this;
  result.shape_ = std::move(shape);
  return result;
}

void Tensor::decode_f32(std::int64_t first, std::span<float> out) const {
  CHECK(first >= 0 && first + static_cast<std::int64_t>(out.size()) <= size(), "range outside the tensor");
  if (out.empty()) return;
  const std::byte* from = data_ + static_cast<std::size_t>(first) * dtype_bytes(dtype_);
  switch (dtype_) {
    case DType::kF32:
      std::memcpy(out.data(), from, out.size_bytes());
      return;
    case DType::kF64:
      return decode_as<double>(from, out, [](double v) { return static_cast<float>(v); });
    case DType::kF16:
      return decode_as<std::uint16_t>(from, out, f16_to_f32);
    case DType::kBF16:
      return decode_as<std::uint16_t>(from, out, bf16_to_f32);
    case DType::kF8E4M3:
      return decode_as<std::uint8_t>(from, out, f8e4m3_to_f32);
    case DType::kF8E5M2:
      return decode_as<std::uint8_t>(from, out, f8e5m2_to_f32);
    case DType::kF8E8M0:
      return decode_as<std::uint8_t>(from, out, f8e8m0_to_f32);
    case DType::kI64:
      return decode_as<std::int64_t>(from, out, [](auto v) { return static_cast<float>(v); });
    case DType::kI32:
      return decode_as<std::int32_t>(from, out, [](auto v) { return static_cast<float>(v); });
    case DType::kI16:
      return decode_as<std::int16_t>(from, out, [](auto v) { return static_cast<float>(v); });
    case DType::kI8:
      return decode_as<std::int8_t>(from, out, [](auto v) { return static_cast<float>(v); });
    case DType::kU64:
      return decode_as<std::uint64_t>(from, out, [](auto v) { return static_cast<float>(v); });
    case DType::kU32:
      return decode_as<std::uint32_t>(from, out, [](auto v) { return static_cast<float>(v); });
    case DType::kU16:
      return decode_as<std::uint16_t>(from, out, [](auto v) { return static_cast<float>(v); });
    case DType::kU8:
    case DType::kBool:
      return decode_as<std::uint8_t>(from, out, [](auto v) { return static_cast<float>(v); });
  }
}

std::vector<float> Tensor::to_f32() const {
  std::vector<float> values(static_cast<std::size_t>(size()));
  decode_f32(0, values);
  return values;
}

Tensor Tensor::from_f32(DType dtype, Shape shape, std::span<const float> values) {
  Tensor tensor = for_overwrite(dtype, std::move(shape));
  CHECK(tensor.size() == static_cast<std::int64_t>(values.size()), "shape and number of values differ");
  if (dtype == DType::kF32) {
    if (!values.empty()) std::memcpy(tensor.mutable_bytes().data(), values.data(), values.size_bytes());
    return tensor;
  }
  CHECK(dtype == DType::kF16 || dtype == DType::kBF16, "from_f32 makes F32, F16 or BF16");
  const std::span<std::uint16_t> out = tensor.as_mutable<std::uint16_t>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    out[i] = dtype == DType::kF16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
  }
  return tensor;
}

Matrix Matrix::for_overwrite(std::int64_t rows, std::int64_t cols) {
  Matrix result;
  result.rows_ = rows;
  result.cols_ = cols;
  result.data_.reset(
      reinterpret_cast<float*>(allocate_bytes(static_cast<std::size_t>(rows * cols) * sizeof(float))));
  return result;
}

Matrix::Matrix(std::int64_t rows, std::int64_t cols) : Matrix(for_overwrite(rows, cols)) {
  if (!empty()) std::memset(data_.get(), 0, values().size_bytes());
}

Matrix::Matrix(const Matrix& other) : Matrix(for_overwrite(other.rows_, other.cols_)) {
  if (!other.empty()) std::memcpy(data_.get(), other.data_.get(), other.values().size_bytes());
}

Matrix& Matrix::operator=(const Matrix& other) {
  if (this != &other) *this = Matrix(other);
  return *this;
}

void Matrix::Free::operator()(float* p) const {
  std::free(p);
}

}  // namespace nibble
