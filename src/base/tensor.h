// SPDX-License-Identifier: Apache-2.0
// A Tensor is a typed, row-major, contiguous array. It either owns aligned memory or views bytes that a
// keeper (a mapped file) holds; copies share the bytes. A Matrix is the fp32 working form: rows x cols,
// owned, aligned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/dtype.h"

namespace nibble {

using Shape = std::vector<std::int64_t>;

// Number of elements; the shape of a scalar is empty and counts one.
std::int64_t element_count(const Shape& shape);
std::string to_string(const Shape& shape);  // "[576, 192]"

inline constexpr std::size_t kAlignment = 64;

// Zero-initialised memory aligned to kAlignment.
std::shared_ptr<std::byte> allocate_aligned(std::size_t bytes);

class Tensor {
 public:
  Tensor() = default;
  // Owned and zero-filled.
  Tensor(DType dtype, Shape shape);
  // Owned, for a caller that writes every element: fresh pages are first touched there, by all its threads.
  static Tensor for_overwrite(DType dtype, Shape shape);
  // A view of `bytes` (element_count * dtype_bytes of them); `keeper` keeps them alive.
  Tensor(DType dtype, Shape shape, const std::byte* bytes, std::shared_ptr<const void> keeper);

  template <class T>
  static Tensor of(DType dtype, Shape shape, std::span<const T> values);

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::int64_t dim(std::size_t axis) const { return shape_.at(axis); }
  std::int64_t size() const { return element_count(shape_); }
  std::size_t byte_size() const { return static_cast<std::size_t>(size()) * dtype_bytes(dtype_); }
  std::span<const std::byte> bytes() const { return {data_, byte_size()}; }
  bool is_owned() const { return writable_ != nullptr; }
  std::span<std::byte> mutable_bytes();

  // Typed access; sizeof(T) must be the element size. Mapped bytes may be unaligned for T only if the file
  // format allows it: readers that cannot promise alignment copy.
  template <class T>
  std::span<const T> as() const {
    CHECK(sizeof(T) == dtype_bytes(dtype_), "element type of another size");
    return {reinterpret_cast<const T*>(data_), static_cast<std::size_t>(size())};
  }
  template <class T>
  std::span<T> as_mutable() {
    CHECK(sizeof(T) == dtype_bytes(dtype_), "element type of another size");
    return {reinterpret_cast<T*>(mutable_bytes().data()), static_cast<std::size_t>(size())};
  }

  // The same bytes under another shape of equal size.
  Tensor reshaped(Shape shape) const;
  // Elements [first, first + count) as fp32; exact for every float format and for integers below 2^24.
  void decode_f32(std::int64_t first, std::span<float> out) const;
  std::vector<float> to_f32() const;
  // A new tensor of a float `dtype` (F32, F16, BF16) with rounded values.
  static Tensor from_f32(DType dtype, Shape shape, std::span<const float> values);

 private:
  DType dtype_ = DType::kF32;
  Shape shape_{0};
  std::shared_ptr<const void> keeper_;
  const std::byte* data_ = nullptr;
  std::byte* writable_ = nullptr;
};

template <class T>
Tensor Tensor::of(DType dtype, Shape shape, std::span<const T> values) {
  Tensor tensor = for_overwrite(dtype, std::move(shape));
  CHECK(tensor.size() == static_cast<std::int64_t>(values.size()), "shape and number of values differ");
  std::span<T> out = tensor.as_mutable<T>();
  for (std::size_t i = 0; i < values.size(); ++i) out[i] = values[i];
  return tensor;
}

// fp32, row-major, rows are contiguous (stride == cols).
class Matrix {
 public:
  Matrix() = default;
  Matrix(std::int64_t rows, std::int64_t cols);  // zero-filled
  // For a caller that writes every element.
  static Matrix for_overwrite(std::int64_t rows, std::int64_t cols);
  Matrix(const Matrix& other);
  Matrix& operator=(const Matrix& other);
  Matrix(Matrix&&) noexcept = default;
  Matrix& operator=(Matrix&&) noexcept = default;

  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  bool empty() const { return rows_ == 0 || cols_ == 0; }
  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  std::span<float> values() { return {data(), static_cast<std::size_t>(rows_ * cols_)}; }
  std::span<const float> values() const { return {data(), static_cast<std::size_t>(rows_ * cols_)}; }
  std::span<float> row(std::int64_t r) { return {data() + r * cols_, static_cast<std::size_t>(cols_)}; }
  std::span<const float> row(std::int64_t r) const {
    return {data() + r * cols_, static_cast<std::size_t>(cols_)};
  }
  float& at(std::int64_t r, std::int64_t c) { return data()[r * cols_ + c]; }
  float at(std::int64_t r, std::int64_t c) const { return data()[r * cols_ + c]; }

 private:
  struct Free {
    void operator()(float* p) const;
  };
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
  std::unique_ptr<float[], Free> data_;
};

}  // namespace nibble
