// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/gguf_layout.h"

#include <fmt/format.h>

#include <cstring>
#include <vector>

namespace nibble {
namespace {

// Row of the stored tensor that becomes row r. A head's rows lie as (pair, half) in GGUF and as (half, pair)
// in Hugging Face.
std::int64_t rotary_source(std::int64_t r, std::int64_t head_dim) {
  const std::int64_t head = r / head_dim;
  const std::int64_t half = r % head_dim / (head_dim / 2);
  const std::int64_t pair = r % (head_dim / 2);
  return head * head_dim + 2 * pair + half;
}

// GGUF stacks (q | k | v, head, dim); GPT-NeoX wants (head, q | k | v, dim).
std::int64_t neox_source(std::int64_t r, std::int64_t heads, std::int64_t head_dim) {
  const std::int64_t head = r / (3 * head_dim);
  const std::int64_t part = r / head_dim % 3;
  return (part * heads + head) * head_dim + r % head_dim;
}

template <class Source>
Tensor reorder_rows(const Tensor& stored, const Source& source) {
  Tensor result(stored.dtype(), stored.shape());
  const std::int64_t rows = stored.dim(0);
  const std::size_t row_bytes = rows > 0 ? stored.byte_size() / static_cast<std::size_t>(rows) : 0;
  std::byte* out = result.mutable_bytes().data();
  const std::byte* in = stored.bytes().data();
  for (std::int64_t r = 0; r < rows && row_bytes > 0; ++r) {
    std::memcpy(out + static_cast<std::size_t>(r) * row_bytes,
                in + static_cast<std::size_t>(source(r)) * row_bytes, row_bytes);
  }
  return result;
}

Tensor transpose(const Tensor& stored) {
  const std::int64_t rows = stored.dim(0);
  const std::int64_t cols = stored.dim(1);
  Tensor result(stored.dtype(), {cols, rows});
  const std::size_t size = dtype_bytes(stored.dtype());
  std::byte* out = result.mutable_bytes().data();
  const std::byte* in = stored.bytes().data();
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      std::memcpy(out + static_cast<std::size_t>(c * rows + r) * size,
                  in + static_cast<std::size_t>(r * cols + c) * size, size);
    }
  }
  return result;
}

Tensor minus_one(const Tensor& stored) {
  std::vector<float> values = stored.to_f32();
  for (float& value : values) value -= 1.0F;
  return Tensor::from_f32(DType::kF32, stored.shape(), values);
}

bool is_rotary(GgufLayout layout) {
  return layout == GgufLayout::kRotaryQuery || layout == GgufLayout::kRotaryKey;
}

}  // namespace

DType dtype_after_layout(DType stored, GgufLayout layout) {
  return layout == GgufLayout::kNormPlusOne ? DType::kF32 : stored;
}

Result<Shape> shape_after_layout(const Shape& stored, GgufLayout layout, std::int64_t heads) {
  const std::int64_t rows = stored.empty() ? 1 : stored[0];
  const std::int64_t parts = layout == GgufLayout::kNeoxQkv ? 3 : is_rotary(layout) ? 2 : 1;
  if (parts > 1 && (heads <= 0 || rows % heads != 0 || rows / heads % parts != 0)) {
    return bad_data(fmt::format("{} rows cannot be shared by {} heads", rows, heads));
  }
  if (layout == GgufLayout::kTransposed && stored.size() == 2) return Shape{stored[1], stored[0]};
  if (layout == GgufLayout::kRow && stored.size() == 1) return Shape{1, stored[0]};
  return stored;
}

Result<Tensor> undo_gguf_layout(const Tensor& stored, GgufLayout layout, std::int64_t heads) {
  TRY_ASSIGN(Shape shape, shape_after_layout(stored.shape(), layout, heads));
  if (stored.size() == 0) return Tensor(dtype_after_layout(stored.dtype(), layout), std::move(shape));
  switch (layout) {
    case GgufLayout::kRotaryQuery:
    case GgufLayout::kRotaryKey: {
      const std::int64_t head_dim = stored.dim(0) / heads;
      return reorder_rows(stored, [&](std::int64_t r) { return rotary_source(r, head_dim); });
    }
    case GgufLayout::kNeoxQkv: {
      const std::int64_t head_dim = stored.dim(0) / heads / 3;
      return reorder_rows(stored, [&](std::int64_t r) { return neox_source(r, heads, head_dim); });
    }
    case GgufLayout::kNormPlusOne:
      return minus_one(stored);
    case GgufLayout::kTransposed:
      return stored.shape().size() == 2 ? transpose(stored) : stored;
    case GgufLayout::kRow:
      return stored.reshaped(std::move(shape));
    case GgufLayout::kPlain:
    case GgufLayout::kExperts:
    case GgufLayout::kExpertsFirst:
    case GgufLayout::kExpertsSecond:
    case GgufLayout::kHeadVectors:
      return stored;
  }
  return stored;
}

}  // namespace nibble
