// SPDX-License-Identifier: Apache-2.0
// Eight codes make exactly `bits` bytes of stream, so the inner step is the same for every width: pairs, then
// fours, then eights of codes are pushed together inside one 64-bit word.
#include "codec/pack.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>
#include <type_traits>

#include "kernels/quantize_rows.h"

namespace nibble {
namespace {

static_assert(std::endian::native == std::endian::little, "streams are copied as bytes");

constexpr std::int64_t kPackGrain = 16;

constexpr std::uint64_t repeat(std::uint64_t value, int bits) {
  std::uint64_t out = 0;
  for (int shift = 0; shift < 64; shift += bits) out |= value << shift;
  return out;
}

// The inner step at a width known to the compiler.
template <int bits>
struct Step {
  static constexpr std::uint64_t kMask = repeat((1u << bits) - 1, 8);
  static constexpr std::uint64_t kOffset = repeat(1u << (bits - 1), 8);
  static constexpr std::uint64_t kOnes = repeat((1u << bits) - 1, 16);
  static constexpr std::uint64_t kPairs = repeat((1u << (2 * bits)) - 1, 32);
  static constexpr std::uint64_t kFours = (std::uint64_t{1} << (4 * bits)) - 1;

  // Eight bytes to a stream of 8 * bits. Adding 2^(bits - 1) to a signed number of `bits` bits flips its top
  // bit.
  static std::uint64_t squeeze(std::uint64_t x) {
    x = (x ^ kOffset) & kMask;
    x = (x & kOnes) | ((x >> (8 - bits)) & (kOnes << bits));
    x = (x & kPairs) | ((x >> (16 - 2 * bits)) & (kPairs << (2 * bits)));
    return (x & kFours) | ((x >> (32 - 4 * bits)) & (kFours << (4 * bits)));
  }

  static std::uint64_t spread(std::uint64_t x) {
    x = (x & kFours) | ((x & (kFours << (4 * bits))) << (32 - 4 * bits));
    x = (x & kPairs) | ((x & (kPairs << (2 * bits))) << (16 - 2 * bits));
    x = (x & kOnes) | ((x & (kOnes << bits)) << (8 - bits));
    x = (x & kMask) ^ kOffset;
    // Sign extension in every byte: the bits above the sign are its copies.
    return x | ((x & kOffset) << 1) * ((1u << (8 - bits)) - 1);
  }
};

Shape two_dims(std::int64_t rows, std::int64_t cols) {
  return {rows, cols};
}

std::uint64_t load(const std::byte* bytes, std::size_t count) {
  std::uint64_t x = 0;
  std::memcpy(&x, bytes, count);
  return x;
}

void unpack_whole_elements(std::span<const std::uint32_t> words, int bits, std::span<std::int8_t> codes) {
  const auto per_word = static_cast<std::size_t>(32 / bits);
  const int offset = 1 << (bits - 1);
  const std::uint32_t mask = (1u << bits) - 1;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const std::uint32_t raw = (words[i / per_word] >> (i % per_word * static_cast<std::size_t>(bits))) & mask;
    codes[i] = static_cast<std::int8_t>(static_cast<int>(raw) - offset);
  }
}

Tensor transposed(const Tensor& tensor, std::size_t width) {
  const auto rows = static_cast<std::size_t>(tensor.dim(0));
  const auto cols = static_cast<std::size_t>(tensor.dim(1));
  Tensor out(tensor.dtype(), two_dims(tensor.dim(1), tensor.dim(0)));
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < cols; ++c) {
      std::memcpy(out.mutable_bytes().data() + (c * rows + r) * width,
                  tensor.bytes().data() + (r * cols + c) * width, width);
    }
  }
  return out;
}

template <int bits>
void pack_row_of(std::span<const std::int8_t> codes, std::span<std::uint32_t> words) {
  const auto* in = reinterpret_cast<const std::byte*>(codes.data());
  auto* out = reinterpret_cast<std::byte*>(words.data());
  const std::size_t whole = codes.size() / 8;
  for (std::size_t i = 0; i < whole; ++i) {
    const std::uint64_t stream = Step<bits>::squeeze(load(in + 8 * i, 8));
    std::memcpy(out + bits * i, &stream, bits);
  }
  // The rest: missing codes must end as zero bits, not as packed zeros.
  std::memset(out + bits * whole, 0, words.size_bytes() - bits * whole);
  const std::size_t rest = codes.size() % 8;
  if (rest == 0) return;
  const std::uint64_t used = (std::uint64_t{1} << (rest * bits)) - 1;
  const std::uint64_t stream = Step<bits>::squeeze(load(in + 8 * whole, rest)) & used;
  std::memcpy(out + bits * whole, &stream, (rest * bits + 7) / 8);
}

template <int bits>
void unpack_row_of(std::span<const std::uint32_t> words, std::span<std::int8_t> codes) {
  const auto* in = reinterpret_cast<const std::byte*>(words.data());
  auto* out = reinterpret_cast<std::byte*>(codes.data());
  const std::size_t whole = codes.size() / 8;
  for (std::size_t i = 0; i < whole; ++i) {
    std::uint64_t stream = 0;
    std::memcpy(&stream, in + bits * i, bits);
    const std::uint64_t bytes = Step<bits>::spread(stream);
    std::memcpy(out + 8 * i, &bytes, 8);
  }
  const std::size_t rest = codes.size() % 8;
  if (rest == 0) return;
  const std::uint64_t bytes = Step<bits>::spread(load(in + bits * whole, (rest * bits + 7) / 8));
  std::memcpy(out + 8 * whole, &bytes, rest);
}

// Calls f with the width as a compile-time constant.
template <class F>
void with_width(int bits, const F& f) {
  switch (bits) {
    case 1:
      return f(std::integral_constant<int, 1>{});
    case 2:
      return f(std::integral_constant<int, 2>{});
    case 3:
      return f(std::integral_constant<int, 3>{});
    case 4:
      return f(std::integral_constant<int, 4>{});
    case 5:
      return f(std::integral_constant<int, 5>{});
    case 6:
      return f(std::integral_constant<int, 6>{});
    case 7:
      return f(std::integral_constant<int, 7>{});
    case 8:
      return f(std::integral_constant<int, 8>{});
    default:
      break;
  }
  CHECK(false, "integer codes have 1 to 8 bits");
}

template <class T>
std::span<T> row_of(std::span<T> values, std::int64_t row, std::int64_t width) {
  return values.subspan(static_cast<std::size_t>(row * width), static_cast<std::size_t>(width));
}

}  // namespace

std::int64_t packed_words(std::int64_t count, int bits) {
  return (count * bits + 31) / 32;
}

void pack_row(std::span<const std::int8_t> codes, int bits, std::span<std::uint32_t> words) {
  if (bits == 4) {
    const std::size_t used = (codes.size() + 1) / 2;
    auto* out = reinterpret_cast<std::uint8_t*>(words.data());
    kernels::join_nibbles_row(reinterpret_cast<const std::uint8_t*>(codes.data()),
                              static_cast<std::int64_t>(codes.size()), 8, out);
    std::memset(out + used, 0, words.size_bytes() - used);
    return;
  }
  with_width(bits, [&](auto width) { pack_row_of<width()>(codes, words); });
}

void unpack_row(std::span<const std::uint32_t> words, int bits, std::span<std::int8_t> codes) {
  with_width(bits, [&](auto width) { unpack_row_of<width()>(words, codes); });
}

Tensor pack_codes(ThreadPool& pool, const Tensor& codes, int bits) {
  const std::int64_t rows = codes.dim(0);
  const std::int64_t cols = codes.dim(1);
  const std::int64_t words = packed_words(cols, bits);
  Tensor packed(DType::kI32, two_dims(rows, words));
  const auto out = packed.as_mutable<std::uint32_t>();
  pool.parallel_for(rows, kPackGrain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      pack_row(row_of(codes.as<std::int8_t>(), r, cols), bits, row_of(out, r, words));
    }
  });
  return packed;
}

Tensor pack_codes_dim0(const Tensor& codes, int bits) {
  ThreadPool inline_pool(1);
  return transposed(pack_codes(inline_pool, transposed(codes, 1), bits), 4);
}

Result<PackLayout> pack_layout(std::int64_t words, std::int64_t count, int bits, PackLayout hint) {
  const std::int64_t per_word = 32 / bits;
  const bool dense = words == packed_words(count, bits);
  const bool whole = words == (count + per_word - 1) / per_word;
  if (dense && whole) return 32 % bits == 0 ? PackLayout::kDense : hint;
  if (dense) return PackLayout::kDense;
  if (whole) return PackLayout::kWholeElements;
  return bad_data(fmt::format("{} elements of {} bits are packed into {} words; dense packing takes {}",
                              count, bits, words, packed_words(count, bits)));
}

Result<Tensor> unpack_codes(ThreadPool& pool, const Tensor& packed, int bits, std::int64_t cols,
                            PackLayout hint) {
  const std::int64_t rows = packed.dim(0);
  const std::int64_t words = packed.dim(1);
  TRY_ASSIGN(const PackLayout layout, pack_layout(words, cols, bits, hint));
  Tensor codes(DType::kI8, two_dims(rows, cols));
  const auto out = codes.as_mutable<std::int8_t>();
  pool.parallel_for(rows, kPackGrain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      const auto in = row_of(packed.as<std::uint32_t>(), r, words);
      const auto row = row_of(out, r, cols);
      layout == PackLayout::kDense ? unpack_row(in, bits, row) : unpack_whole_elements(in, bits, row);
    }
  });
  return codes;
}

Result<Tensor> unpack_codes_dim0(const Tensor& packed, int bits, std::int64_t rows, PackLayout hint) {
  ThreadPool inline_pool(1);
  TRY_ASSIGN(const Tensor codes, unpack_codes(inline_pool, transposed(packed, 4), bits, rows, hint));
  return transposed(codes, 1);
}

void pack_nibble_row(std::span<const std::uint8_t> codes, std::span<std::uint8_t> packed) {
  CHECK(codes.size() == 2 * packed.size(), "two codes a byte");
  kernels::join_nibbles_row(codes.data(), static_cast<std::int64_t>(codes.size()), 0, packed.data());
}

void unpack_nibble_row(std::span<const std::uint8_t> packed, std::span<std::uint8_t> codes) {
  for (std::size_t i = 0; i < packed.size(); ++i) {
    codes[2 * i] = packed[i] & 15;
    codes[2 * i + 1] = packed[i] >> 4;
  }
}

Result<Tensor> pack_nibbles(ThreadPool& pool, const Tensor& codes) {
  const std::int64_t cols = codes.dim(1);
  if (cols % 2 != 0) {
    return usage_error(
        fmt::format("{} columns cannot be stored as FP4: two share a byte, so the number must be even", cols),
        "put the module on the ignore list");
  }
  Tensor packed(DType::kU8, two_dims(codes.dim(0), cols / 2));
  const auto out = packed.as_mutable<std::uint8_t>();
  pool.parallel_for(codes.dim(0), kPackGrain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      pack_nibble_row(row_of(codes.as<std::uint8_t>(), r, cols), row_of(out, r, cols / 2));
    }
  });
  return packed;
}

Tensor unpack_nibbles(ThreadPool& pool, const Tensor& packed) {
  const std::int64_t half = packed.dim(1);
  Tensor codes(DType::kU8, two_dims(packed.dim(0), 2 * half));
  const auto out = codes.as_mutable<std::uint8_t>();
  pool.parallel_for(packed.dim(0), kPackGrain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      unpack_nibble_row(row_of(packed.as<std::uint8_t>(), r, half), row_of(out, r, 2 * half));
    }
  });
  return codes;
}

}  // namespace nibble
