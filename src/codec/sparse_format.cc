// SPDX-License-Identifier: Apache-2.0
#include "codec/sparse_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include "codec/sparse_quads.h"

namespace nibble {
namespace {

constexpr std::array<std::string_view, 3> kNames{"sparse-bitmask", "sparse-24-bitmask", "nibble-24"};

// Zero of any sign: the sign is the top bit of every float type; integers have one zero.
bool is_zero(const std::byte* element, std::size_t width, bool is_signed_zero) {
  for (std::size_t i = 0; i < width; ++i) {
    const bool is_top = i + 1 == width;
    const auto value = std::to_integer<unsigned>(element[i]) & (is_top && is_signed_zero ? 0x7fu : 0xffu);
    if (value != 0) return false;
  }
  return true;
}

void fill_mask(const Tensor& dense, Tensor& bitmask, std::vector<std::int64_t>& row_counts) {
  const std::size_t width = dtype_bytes(dense.dtype());
  const auto rows = static_cast<std::size_t>(dense.dim(0));
  const auto cols = static_cast<std::size_t>(dense.dim(1));
  const auto mask_cols = static_cast<std::size_t>(bitmask.dim(1));
  const auto bits = bitmask.as_mutable<std::uint8_t>();
  row_counts.assign(rows, 0);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < cols; ++c) {
      if (is_zero(dense.bytes().data() + (r * cols + c) * width, width, is_float(dense.dtype()))) continue;
      bits[r * mask_cols + c / 8] = static_cast<std::uint8_t>(bits[r * mask_cols + c / 8] | (1u << (c % 8)));
      ++row_counts[r];
    }
  }
}

// Marks the first zeros as stored values until there are `wanted`.
Status fill_up(std::int64_t wanted, std::int64_t cols, Tensor& bitmask, std::vector<std::int64_t>& counts) {
  std::int64_t have = 0;
  for (const std::int64_t count : counts) have += count;
  const std::int64_t room = static_cast<std::int64_t>(counts.size()) * cols;
  if (have > wanted || room < wanted)
    return failed(fmt::format("{} of {} values are not zero; {} were planned", have, room, wanted));
  const auto mask_cols = static_cast<std::size_t>(bitmask.dim(1));
  const auto bits = bitmask.as_mutable<std::uint8_t>();
  for (std::size_t r = 0; r < counts.size() && have < wanted; ++r) {
    for (std::size_t c = 0; c < static_cast<std::size_t>(cols) && have < wanted; ++c) {
      std::uint8_t& byte = bits[r * mask_cols + c / 8];
      const auto bit = static_cast<std::uint8_t>(1u << (c % 8));
      if ((byte & bit) != 0) continue;
      byte = static_cast<std::uint8_t>(byte | bit);
      ++counts[r];
      ++have;
    }
  }
  return {};
}

// Non-zeros among the four columns from c on (c is a multiple of 4).
int quad_count(const std::uint8_t* mask_row, std::size_t c) {
  return std::popcount(static_cast<unsigned>((mask_row[c / 8] >> (c % 8)) & 15));
}

bool is_set(const std::uint8_t* mask_row, std::size_t c) {
  return ((mask_row[c / 8] >> (c % 8)) & 1) != 0;
}

Status check_quads(const Tensor& bitmask, std::int64_t cols) {
  if (cols % 4 != 0)
    return bad_data(fmt::format("{} columns are not whole quads; 2:4 needs a multiple of 4", cols));
  const auto bits = bitmask.as<std::uint8_t>();
  const auto mask_cols = static_cast<std::size_t>(bitmask.dim(1));
  for (std::size_t r = 0; r < static_cast<std::size_t>(bitmask.dim(0)); ++r) {
    for (std::size_t c = 0; c < static_cast<std::size_t>(cols); c += 4) {
      const int count = quad_count(bits.data() + r * mask_cols, c);
      if (count <= 2) continue;
      return bad_data(
          fmt::format("row {}, columns {} to {} have {} non-zeros; 2:4 allows two", r, c, c + 3, count),
          "prune with mask_structure 2:4 first");
    }
  }
  return {};
}

// Copies the elements named by the mask between rows [first, last) of a dense matrix and the compressed one,
// whose places begin at `place` for `first`; in 2:4 every quad has two places. Returns the place behind.
template <class Copy>
std::size_t each_non_zero(const Tensor& bitmask, std::int64_t cols, bool quads, std::int64_t first,
                          std::int64_t last, std::size_t place, const Copy& copy) {
  const auto bits = bitmask.as<std::uint8_t>();
  const auto mask_cols = static_cast<std::size_t>(bitmask.dim(1));
  const auto width = static_cast<std::size_t>(cols);
  for (auto r = static_cast<std::size_t>(first); r < static_cast<std::size_t>(last); ++r) {
    const std::uint8_t* mask_row = bits.data() + r * mask_cols;
    for (std::size_t c = 0; c < width; ++c) {
      if (quads && c % 4 == 0) place = (r * width + c) / 2;
      if (is_set(mask_row, c)) copy(r * width + c, place++);
    }
  }
  return place;
}

template <class Copy>
void each_non_zero(const Tensor& bitmask, std::int64_t cols, bool quads, const Copy& copy) {
  each_non_zero(bitmask, cols, quads, 0, bitmask.dim(0), 0, copy);
}

// rows and cols of the dense matrix, with the mask's shape checked against them.
Result<Shape> read_shape(const Tensor& shape, const Tensor& bitmask) {
  if (shape.dtype() != DType::kI64 || shape.size() != 2) {
    return bad_data(fmt::format("shape has dtype {} and shape {}; it must be two int64",
                                torch_name(shape.dtype()), to_string(shape.shape())));
  }
  const auto dims = shape.as<std::int64_t>();
  const bool fits = bitmask.dtype() == DType::kU8 && bitmask.shape().size() == 2 &&
                    dims[0] == bitmask.dim(0) && dims[1] >= 0 && dims[1] <= 8 * bitmask.dim(1) &&
                    (dims[1] + 7) / 8 == bitmask.dim(1);
  if (!fits) {
    return bad_data(
        fmt::format("bitmask has dtype {} and shape {}; a {} x {} matrix needs uint8 of [rows, cols / 8]",
                    torch_name(bitmask.dtype()), to_string(bitmask.shape()), dims[0], dims[1]));
  }
  return Shape{dims[0], dims[1]};
}

}  // namespace

std::string_view to_string(SparseFormat format) {
  return kNames[static_cast<std::size_t>(format)];
}

std::optional<SparseFormat> sparse_format_from_string(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<SparseFormat>(i);
  }
  return std::nullopt;
}

const std::vector<std::string>& sparse_suffixes(SparseFormat format) {
  static const std::vector<std::string> bitmask{"shape", "compressed", "bitmask", "row_offsets"};
  static const std::vector<std::string> bitmask24{"shape", "compressed", "bitmask"};
  static const std::vector<std::string> quads{"shape", "values", "positions"};
  if (format == SparseFormat::kQuads) return quads;
  return format == SparseFormat::kBitmask ? bitmask : bitmask24;
}

std::vector<StoredTensor> sparse_stored(const SparseLayout& layout, std::int64_t rows, std::int64_t cols,
                                        DType dtype) {
  const std::int64_t quads = (cols + 3) / 4;
  if (layout.format == SparseFormat::kQuads) {
    const bool halves = layout.code_bits == 4;
    return {{"shape", DType::kI64, {2}},
            {"values", halves ? DType::kU8 : dtype, {rows, halves ? quads : 2 * quads}},
            {"positions", DType::kU8, {rows, (quads + 1) / 2}}};
  }
  const StoredTensor bitmask{"bitmask", DType::kU8, {rows, (cols + 7) / 8}};
  if (layout.format == SparseFormat::kBitmask24)
    return {{"shape", DType::kI64, {2, 1}}, {"compressed", dtype, {rows, cols / 2}}, bitmask};
  CHECK(layout.stored_values.has_value(), "the size of a bitmask follows from its values");
  return {{"shape", DType::kI64, {2}},
          {"compressed", dtype, {*layout.stored_values}},
          bitmask,
          {"row_offsets", DType::kI64, {rows}}};
}

Result<std::map<std::string, Tensor>> sparse_compress(const Tensor& dense, const SparseLayout& layout) {
  if (layout.format == SparseFormat::kQuads) return quads_compress(dense, layout.code_bits);
  if (dense.shape().size() != 2) {
    return usage_error(
        fmt::format("a tensor of shape {} has no sparse form; only matrices have", to_string(dense.shape())));
  }
  const bool quads = layout.format == SparseFormat::kBitmask24;
  const std::int64_t rows = dense.dim(0);
  const std::int64_t cols = dense.dim(1);
  const std::size_t width = dtype_bytes(dense.dtype());
  Tensor bitmask(DType::kU8, {rows, (cols + 7) / 8});
  std::vector<std::int64_t> counts;
  fill_mask(dense, bitmask, counts);
  if (quads) TRY(check_quads(bitmask, cols));
  if (layout.stored_values && !quads) TRY(fill_up(*layout.stored_values, cols, bitmask, counts));
  std::int64_t total = 0;
  for (std::int64_t& count : counts) {  // counts become offsets
    total += count;
    count = total - count;
  }
  Tensor compressed(dense.dtype(), quads ? Shape{rows, cols / 2} : Shape{total});
  std::byte* out = compressed.mutable_bytes().data();
  each_non_zero(bitmask, cols, quads, [&](std::size_t from, std::size_t to) {
    const std::byte* element = dense.bytes().data() + from * width;
    if (is_zero(element, width, is_float(dense.dtype()))) return;  // fills up: +0
    std::memcpy(out + to * width, element, width);
  });
  const std::int64_t dims[2] = {rows, cols};
  std::map<std::string, Tensor> tensors;
  tensors.emplace("shape", Tensor::of<std::int64_t>(DType::kI64, quads ? Shape{2, 1} : Shape{2},
                                                    std::span<const std::int64_t>(dims)));
  tensors.emplace("compressed", compressed);
  tensors.emplace("bitmask", bitmask);
  if (!quads) {
    tensors.emplace("row_offsets",
                    Tensor::of<std::int64_t>(DType::kI64, {rows}, std::span<const std::int64_t>(counts)));
  }
  return tensors;
}

Status sparse_decompress_rows(const std::map<std::string, Tensor>& tensors, SparseFormat format,
                              std::int64_t step, const RowBlockBody& body) {
  if (format == SparseFormat::kQuads) return quads_decompress_rows(tensors, step, body);
  const bool quads = format == SparseFormat::kBitmask24;
  TRY_ASSIGN(const Tensor shape, required_tensor(tensors, "shape"));
  TRY_ASSIGN(const Tensor bitmask, required_tensor(tensors, "bitmask"));
  TRY_ASSIGN(const Tensor compressed, required_tensor(tensors, "compressed"));
  TRY_ASSIGN(const Shape dims, read_shape(shape, bitmask));
  if (quads) TRY(check_quads(bitmask, dims[1]));
  std::int64_t expected = dims[0] * dims[1] / 2;
  if (!quads) {
    expected = 0;
    each_non_zero(bitmask, dims[1], false, [&](std::size_t, std::size_t) { ++expected; });
  }
  if (compressed.size() != expected) {
    return bad_data(
        fmt::format("compressed has {} values; the bitmask needs {}", compressed.size(), expected));
  }
  const std::size_t width = dtype_bytes(compressed.dtype());
  std::int64_t first = 0;
  std::size_t place = 0;
  do {
    const std::int64_t last = first + std::min(step, dims[0] - first);
    Tensor dense(compressed.dtype(), {last - first, dims[1]});
    std::byte* out = dense.mutable_bytes().data();
    const auto skipped = static_cast<std::size_t>(first * dims[1]);
    place = each_non_zero(bitmask, dims[1], quads, first, last, place, [&](std::size_t to, std::size_t from) {
      std::memcpy(out + (to - skipped) * width, compressed.bytes().data() + from * width, width);
    });
    TRY(body(dense));
    first = last;
  } while (first < dims[0]);
  return {};
}

Result<Tensor> sparse_decompress(const std::map<std::string, Tensor>& tensors, SparseFormat format) {
  Tensor whole;
  TRY(sparse_decompress_rows(tensors, format, std::numeric_limits<std::int64_t>::max(),
                             [&](const Tensor& rows) -> Status {
                               whole = rows;
                               return {};
                             }));
  return whole;
}

}  // namespace nibble
