// SPDX-License-Identifier: Apache-2.0
#include "codec/sparse_quads.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "kernels/zero_bits.h"

namespace nibble {
namespace {

constexpr unsigned kHalf = 15;

// Places of the two stored values by which of the four columns are zero (bit i: column i); more than two
// values have none.
constexpr unsigned char kNone = 255;
constexpr std::array<unsigned char, 16> make_places() {
  std::array<unsigned char, 16> places{};
  for (unsigned zeros = 0; zeros < 16; ++zeros) {
    unsigned taken = ~zeros & kHalf;
    for (unsigned i = 0; i < 4 && std::popcount(taken) < 2; ++i) taken |= 1u << i;
    const auto first = static_cast<unsigned>(std::countr_zero(taken));
    const auto second = static_cast<unsigned>(std::bit_width(taken)) - 1;
    places[zeros] = std::popcount(taken) > 2 ? kNone : static_cast<unsigned char>(first | (second << 2));
  }
  return places;
}
constexpr std::array<unsigned char, 16> kPlaces = make_places();

bool is_quad_type(DType dtype) {
  return (is_float(dtype) && dtype != DType::kF8E8M0) || dtype == DType::kI8;
}

Error not_two_of_four(std::int64_t row, std::int64_t quad, int count) {
  return bad_data(fmt::format("row {}, columns {} to {} have {} non-zeros; 2:4 allows two", row, 4 * quad,
                              4 * quad + 3, count),
                  "prune with mask_structure 2:4 first");
}

struct Shapes {
  std::int64_t rows = 0, cols = 0;
  std::int64_t quads() const { return (cols + 3) / 4; }
};

Status check_shape(const Tensor& tensor, const char* suffix, const Shape& wanted) {
  if (tensor.shape() == wanted) return {};
  return bad_data(
      fmt::format("{} has the shape {}, expected {}", suffix, to_string(tensor.shape()), to_string(wanted)));
}

Result<Shapes> read_shapes(const std::map<std::string, Tensor>& tensors, const Tensor& values,
                           const Tensor& positions) {
  TRY_ASSIGN(const Tensor shape, required_tensor(tensors, "shape"));
  if (shape.dtype() != DType::kI64 || shape.size() != 2) {
    return bad_data(fmt::format("shape has dtype {} and shape {}; it must be two int64",
                                torch_name(shape.dtype()), to_string(shape.shape())));
  }
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  const Shapes dims{shape.as<std::int64_t>()[0], shape.as<std::int64_t>()[1]};
  if (dims.rows < 0 || dims.cols < 0 || dims.rows > kMost || dims.cols > kMost)
    return bad_data(fmt::format("shape is {} x {}", dims.rows, dims.cols));
  if (positions.dtype() != DType::kU8)
    return bad_data(fmt::format("positions are {}; they must be uint8", torch_name(positions.dtype())));
  TRY(check_shape(positions, "positions", {dims.rows, (dims.quads() + 1) / 2}));
  const bool halves = values.dtype() == DType::kU8;
  if (!halves && !is_quad_type(values.dtype())) {
    return bad_data(fmt::format("values are {}; they must be floats, int8, or uint8 of two codes",
                                torch_name(values.dtype())));
  }
  TRY(check_shape(values, "values", {dims.rows, halves ? dims.quads() : 2 * dims.quads()}));
  return dims;
}

Status check_finite(const Tensor& values) {
  if (!is_float(values.dtype())) return {};
  const std::int64_t cols = values.dim(1);
  std::vector<float> row(static_cast<std::size_t>(cols));
  for (std::int64_t r = 0; r < values.dim(0); ++r) {
    values.decode_f32(r * cols, row);
    for (const float value : row) {
      if (!std::isfinite(value)) return bad_data(fmt::format("values of row {} hold {}", r, value));
    }
  }
  return {};
}

Error not_ascending(unsigned places, std::int64_t row, std::int64_t quad) {
  return bad_data(fmt::format("positions of row {}, columns {} to {} are {} and {}; they must ascend", row,
                              4 * quad, 4 * quad + 3, places & 3, places >> 2));
}

// Elements are copied as they are: `T` is an unsigned integer of their size.
template <class T>
class QuadDecoder {
 public:
  QuadDecoder(const Tensor& values, const Tensor& positions, const Shapes& dims)
      : positions_(positions.as<std::uint8_t>().data()),
        values_(values.as<T>().data()),
        halves_(values.dtype() == DType::kU8),
        dtype_(halves_ ? DType::kI8 : values.dtype()),
        dims_(dims) {}

  Status run(std::int64_t step, const RowBlockBody& body) const {
    std::int64_t r = 0;
    do {
      const std::int64_t last = r + std::min(step, dims_.rows - r);
      Tensor dense(dtype_, {last - r, dims_.cols});
      T* row = dense.as_mutable<T>().data();
      for (; r < last; ++r, row += dims_.cols) TRY(decode_row(r, row));
      TRY(body(dense));
    } while (r < dims_.rows);
    return {};
  }

 private:
  Status decode_row(std::int64_t r, T* row) const {
    const std::int64_t quads = dims_.quads();
    const std::uint8_t* places_of_row = positions_ + r * ((quads + 1) / 2);
    if (quads % 2 != 0 && (places_of_row[quads / 2] >> 4) != 0)
      return bad_data(fmt::format("positions of row {} do not end with zero bits", r));
    for (std::int64_t q = 0; q < quads; ++q) {
      const unsigned places = (places_of_row[q / 2] >> (4 * (q % 2))) & kHalf;
      if ((places & 3) >= (places >> 2)) return not_ascending(places, r, q);
      for (int which = 0; which < 2; ++which) {
        const std::int64_t col = 4 * q + (which == 0 ? places & 3 : places >> 2);
        const T element = value(r * quads + q, which);
        if (col < dims_.cols) {
          row[col] = element;
        } else if (element != 0) {
          return bad_data(fmt::format("row {} has a value behind its last column {}", r, dims_.cols - 1));
        }
      }
    }
    return {};
  }

  T value(std::int64_t quad, int which) const {
    if (!halves_) return values_[2 * quad + which];
    const unsigned code = (static_cast<unsigned>(values_[quad]) >> (4 * which)) & kHalf;
    return static_cast<T>((code ^ 8u) - 8u);
  }

  const std::uint8_t* positions_;
  const T* values_;
  bool halves_;
  DType dtype_;
  Shapes dims_;
};

Status check_source(const Tensor& dense, int code_bits) {
  if (dense.shape().size() != 2) {
    return usage_error(
        fmt::format("a tensor of shape {} has no sparse form; only matrices have", to_string(dense.shape())));
  }
  if (!is_quad_type(dense.dtype()) || (code_bits != 0 && dense.dtype() != DType::kI8))
    return usage_error(fmt::format("{} values have no 2:4 form", torch_name(dense.dtype())));
  CHECK(code_bits == 0 || code_bits == 4, "codes are stored in four bits or as they are");
  return {};
}

template <class T>
class QuadEncoder {
 public:
  QuadEncoder(const Tensor& dense, bool halves)
      : dense_(dense),
        halves_(halves),
        dims_{dense.dim(0), dense.dim(1)},
        values_(halves ? DType::kU8 : dense.dtype(), {dims_.rows, (halves ? 1 : 2) * dims_.quads()}),
        positions_(DType::kU8, {dims_.rows, (dims_.quads() + 1) / 2}) {}

  Result<std::map<std::string, Tensor>> run() {
    for (std::int64_t r = 0; r < dims_.rows; ++r) TRY(encode_row(r));
    const std::int64_t shape[2] = {dims_.rows, dims_.cols};
    std::map<std::string, Tensor> tensors;
    tensors.emplace("shape",
                    Tensor::of<std::int64_t>(DType::kI64, {2}, std::span<const std::int64_t>(shape)));
    tensors.emplace("values", std::move(values_));
    tensors.emplace("positions", std::move(positions_));
    return tensors;
  }

 private:
  Status encode_row(std::int64_t r) {
    const std::int64_t quads = dims_.quads();
    const T* row = dense_.as<T>().data() + r * dims_.cols;
    T* out = values_.as_mutable<T>().data() + r * values_.dim(1);
    std::uint8_t* places_out = positions_.as_mutable<std::uint8_t>().data() + r * positions_.dim(1);
    std::vector<std::uint64_t> mask(static_cast<std::size_t>(kernels::zero_words(dims_.cols)));
    kernels::zero_bits(dense_.dtype(), reinterpret_cast<const std::byte*>(row), dims_.cols, mask.data());
    for (std::int64_t q = 0; q < quads; ++q) {
      const auto zeros =
          static_cast<unsigned>(mask[static_cast<std::size_t>(q / 16)] >> (4 * (q % 16))) & kHalf;
      const unsigned places = kPlaces[zeros];
      if (places == kNone) return not_two_of_four(r, q, 4 - std::popcount(zeros));
      places_out[q / 2] = static_cast<std::uint8_t>(places_out[q / 2] | (places << (4 * (q % 2))));
      for (unsigned which = 0; which < 2; ++which) {
        const unsigned place = which == 0 ? places & 3 : places >> 2;
        if (((zeros >> place) & 1) != 0) continue;  // stays +0
        const T element = row[4 * q + place];
        if (!halves_) {
          out[2 * q + which] = element;
        } else {
          out[q] = static_cast<T>(out[q] | ((element & kHalf) << (4 * which)));
        }
      }
    }
    return {};
  }

  const Tensor& dense_;
  bool halves_;
  Shapes dims_;
  Tensor values_, positions_;
};

Status check_codes(const Tensor& codes) {
  for (const std::int8_t code : codes.as<std::int8_t>()) {
    if (code < -8 || code > 7)
      return usage_error(fmt::format("there is a code {}, which does not fit four bits", code));
  }
  return {};
}

}  // namespace

Result<Tensor> required_tensor(const std::map<std::string, Tensor>& tensors, const std::string& suffix) {
  const auto found = tensors.find(suffix);
  if (found == tensors.end()) return bad_data(fmt::format("{} is missing", suffix));
  return found->second;
}

Result<std::map<std::string, Tensor>> quads_compress(const Tensor& dense, int code_bits) {
  TRY(check_source(dense, code_bits));
  if (code_bits == 4) TRY(check_codes(dense));
  switch (dtype_bytes(dense.dtype())) {
    case 1:
      return QuadEncoder<std::uint8_t>(dense, code_bits == 4).run();
    case 2:
      return QuadEncoder<std::uint16_t>(dense, false).run();
    case 4:
      return QuadEncoder<std::uint32_t>(dense, false).run();
    default:
      return QuadEncoder<std::uint64_t>(dense, false).run();
  }
}

Status quads_decompress_rows(const std::map<std::string, Tensor>& tensors, std::int64_t step,
                             const RowBlockBody& body) {
  TRY_ASSIGN(const Tensor values, required_tensor(tensors, "values"));
  TRY_ASSIGN(const Tensor positions, required_tensor(tensors, "positions"));
  TRY_ASSIGN(const Shapes dims, read_shapes(tensors, values, positions));
  TRY(check_finite(values));
  switch (dtype_bytes(values.dtype())) {
    case 1:
      return QuadDecoder<std::uint8_t>(values, positions, dims).run(step, body);
    case 2:
      return QuadDecoder<std::uint16_t>(values, positions, dims).run(step, body);
    case 4:
      return QuadDecoder<std::uint32_t>(values, positions, dims).run(step, body);
    default:
      return QuadDecoder<std::uint64_t>(values, positions, dims).run(step, body);
  }
}

}  // namespace nibble
