// SPDX-License-Identifier: Apache-2.0
// Any parts of a sparse weight are a matrix or an error; a matrix that was read is stored and read again as
// the same.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "codec/sparse_format.h"

namespace {

using namespace nibble;

class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  unsigned next() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  // Filled as far as the input goes; the rest is zero.
  Tensor tensor(DType dtype, Shape shape) {
    Tensor out(dtype, std::move(shape));
    const std::size_t taken = std::min(size_, out.byte_size());
    if (taken > 0) std::memcpy(out.mutable_bytes().data(), data_, taken);
    data_ += taken;
    size_ -= taken;
    return out;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes bytes(data, size);
  const auto format = static_cast<SparseFormat>(bytes.next() % 3);
  constexpr DType kTypes[] = {DType::kBF16, DType::kF32, DType::kI8, DType::kU8};
  const DType dtype = kTypes[bytes.next() % 4];
  const auto rows = static_cast<std::int64_t>(bytes.next() % 8),
             cols = static_cast<std::int64_t>(bytes.next() % 40);
  const std::int64_t dims[2] = {rows, cols + static_cast<std::int64_t>(bytes.next() % 3) - 1};
  std::map<std::string, Tensor> parts;
  parts["shape"] = Tensor::of<std::int64_t>(DType::kI64, {2}, std::span<const std::int64_t>(dims));
  const std::int64_t quads = (cols + 3) / 4;
  if (format == SparseFormat::kQuads) {
    parts["positions"] = bytes.tensor(DType::kU8, {rows, (quads + 1) / 2});
    parts["values"] = bytes.tensor(dtype, {rows, dtype == DType::kU8 ? quads : 2 * quads});
  } else {
    const auto count = static_cast<std::int64_t>(bytes.next());
    parts["bitmask"] = bytes.tensor(DType::kU8, {rows, (cols + 7) / 8});
    parts["row_offsets"] = bytes.tensor(DType::kI64, {rows});
    parts["compressed"] =
        bytes.tensor(dtype, format == SparseFormat::kBitmask ? Shape{count} : Shape{rows, cols / 2});
  }
  const auto dense = sparse_decompress(parts, format);
  if (!dense.ok()) return 0;
  const auto stored = sparse_compress(*dense, SparseLayout{.format = format});
  if (!stored.ok()) std::abort();
  const auto again = sparse_decompress(*stored, format);
  if (!again.ok() || again->shape() != dense->shape()) std::abort();
  if (again->to_f32() != dense->to_f32() && !is_float(dtype)) std::abort();  // NaN differs from itself
  return 0;
}
