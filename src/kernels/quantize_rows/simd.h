// SPDX-License-Identifier: Apache-2.0
// The row kernels on vectors of kWidth floats (GCC / Clang vector extensions: every operation is the exact
// IEEE one, so all widths give the bits of ref.cc). Included by avx2.cc and avx512.cc, which first define
// kWidth, Integers, look_up and the conversions of narrow lanes, for which GCC 12's __builtin_convertvector
// goes lane by lane; everything here is internal to the including unit.
#pragma once

#include <cstring>
#include <type_traits>

namespace nibble::kernels::quantize_rows {
namespace {

using Float = float __attribute__((vector_size(4 * kWidth)));
using Int = std::int32_t __attribute__((vector_size(4 * kWidth)));
using Uint = std::uint32_t __attribute__((vector_size(4 * kWidth)));
using Short = std::uint16_t __attribute__((vector_size(2 * kWidth)));
using Four = float __attribute__((vector_size(16)));

#define NIBBLE_INLINE [[gnu::always_inline]] inline

NIBBLE_INLINE Float splat(float x) {
  return x - Float{};
}

template <DType type>
inline constexpr std::size_t kBytes = type == DType::kF32 ? 4 : 2;

template <DType type>
NIBBLE_INLINE Float load(const void* at) {
  if constexpr (type == DType::kF32) {
    Float v;
    std::memcpy(&v, at, sizeof v);
    return v;
  } else if constexpr (type == DType::kF16) {
    return load_half(at);
  } else {
    return reinterpret_cast<Float>(reinterpret_cast<Uint>(load_shorts(at)) << 16);
  }
}

// The first n < kWidth lanes; the others hold lane 0, which is neutral for ranges.
template <DType type>
NIBBLE_INLINE Float load_some(const char* at, std::int64_t n) {
  char buffer[kBytes<type> * kWidth];
  for (std::size_t i = 0; i < kWidth; ++i) std::memcpy(buffer + kBytes<type> * i, at, kBytes<type>);
  std::memcpy(buffer, at, kBytes<type> * static_cast<std::size_t>(n));
  return load<type>(buffer);
}

template <DType type>
NIBBLE_INLINE Float round_as(Float v) {
  if constexpr (type == DType::kF32) return v;
  if constexpr (type == DType::kF16) return round_half(v);
  const Uint bits = reinterpret_cast<Uint>(v);
  const Uint rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
  return reinterpret_cast<Float>(v != v ? (bits & 0xffff0000u) | 0x00400000u : rounded);
}

template <bool want_max>
NIBBLE_INLINE Four fold(Four a, Four b) {
  return (want_max ? a > b : a < b) ? a : b;
}

template <bool want_max>
NIBBLE_INLINE float reduce(Float v) {
  Four parts[kWidth / 4];
  std::memcpy(parts, &v, sizeof v);
  Four best = parts[0];
  for (int i = 1; i < kWidth / 4; ++i) best = fold<want_max>(best, parts[i]);
  best = fold<want_max>(best, __builtin_shufflevector(best, best, 2, 3, 0, 1));
  best = fold<want_max>(best, __builtin_shufflevector(best, best, 1, 0, 3, 2));
  return best[0] + 0.0f;
}

NIBBLE_INLINE bool any(Int mask) {
  std::uint64_t words[sizeof(Int) / 8];
  std::memcpy(words, &mask, sizeof mask);
  std::uint64_t all = 0;
  for (const std::uint64_t word : words) all |= word;
  return all != 0;
}

template <DType type>
void range_typed(const char* row, std::int64_t count, std::int64_t run, float* min, float* max) {
  for (std::int64_t begin = 0, unit = 0; begin < count; begin += run, ++unit) {
    const std::int64_t n = begin + run < count ? run : count - begin;
    const char* at = row + static_cast<std::int64_t>(kBytes<type>) * begin;
    Float low = n < kWidth ? load_some<type>(at, n) : load<type>(at);
    Float high = low;
    Int nan = low != low;
    for (std::int64_t i = kWidth; i < n; i += kWidth) {
      // The last vector overlaps the one before it instead of being partial.
      const std::int64_t first = i + kWidth <= n ? i : n - kWidth;
      const Float v = load<type>(at + static_cast<std::int64_t>(kBytes<type>) * first);
      low = v < low ? v : low;
      high = v > high ? v : high;
      nan |= v != v;
    }
    const bool has_nan = any(nan);
    min[unit] = has_nan ? __builtin_nanf("") : reduce<false>(low);
    max[unit] = has_nan ? __builtin_nanf("") : reduce<true>(high);
  }
}

void range(DType input, const void* row, std::int64_t count, std::int64_t run, float* min, float* max) {
  const char* bytes = static_cast<const char*>(row);
  switch (input) {
    case DType::kBF16:
      return range_typed<DType::kBF16>(bytes, count, run, min, max);
    case DType::kF16:
      return range_typed<DType::kF16>(bytes, count, run, min, max);
    default:
      return range_typed<DType::kF32>(bytes, count, run, min, max);
  }
}

// Half to even for |y| < 2^22.
NIBBLE_INLINE Float nearest(Float y) {
  return (y + 12582912.0f) - 12582912.0f;
}

template <CodeFormat format>
NIBBLE_INLINE Float clamp(const RowQuantizer& q, Float y) {
  const Float low = y > splat(q.code_min) ? y : splat(q.code_min);
  const Float both = low < splat(q.code_max) ? low : splat(q.code_max);
  if constexpr (format == CodeFormat::kInteger) return both;
  return y != y ? y : both;
}

template <CodeFormat format>
NIBBLE_INLINE Int encode(Float y) {
  if constexpr (format == CodeFormat::kInteger) return __builtin_convertvector(nearest(y), Int);
  const Int bits = reinterpret_cast<Int>(y);
  if constexpr (format == CodeFormat::kE4M3) {
    const Int magnitude = bits & 0x7fffffff;
    const Int small = reinterpret_cast<Int>(reinterpret_cast<Float>(magnitude) + 0x1p14f) - 0x46800000;
    const Int normal = (magnitude - 0x3c000000 + 0x7ffff + ((magnitude >> 20) & 1)) >> 20;
    const Int code = magnitude < 0x3c800000 ? small : (magnitude < 0x43e80000 ? normal : Int{} + 0x7f);
    return code | ((bits >> 24) & 0x80);
  }
  const Float a = reinterpret_cast<Float>(bits & 0x7fffffff);
  const Int index =
      (a > 0.25f) + (a >= 0.75f) + (a > 1.25f) + (a >= 1.75f) + (a > 2.5f) + (a >= 3.5f) + (a > 5.0f);
  return (y < 0.0f ? Int{} + 8 : Int{}) - index;  // a true comparison is -1
}

template <CodeFormat format>
NIBBLE_INLINE Float decode(Int code) {
  if constexpr (format == CodeFormat::kInteger) return __builtin_convertvector(code, Float);
  if constexpr (format == CodeFormat::kE4M3) {
    const Uint bits = reinterpret_cast<Uint>(code);
    const Uint value = reinterpret_cast<Uint>(reinterpret_cast<Float>((bits & 0x7fu) << 20) * 0x1p120f);
    const Uint magnitude = (bits & 0x7fu) == 0x7fu ? Uint{} + 0x7fc00000u : value;
    return reinterpret_cast<Float>(magnitude | ((bits & 0x80u) << 24));
  }
  const Uint magnitude = reinterpret_cast<Uint>(look_up(kE2M1Values, reinterpret_cast<Integers>(code & 7)));
  return reinterpret_cast<Float>(magnitude | ((reinterpret_cast<Uint>(code) & 8u) << 28));
}

// The code's value without making the code.
template <CodeFormat format>
NIBBLE_INLINE Float value_of(Float y) {
  if constexpr (format != CodeFormat::kInteger) return decode<format>(encode<format>(y));
  const Uint sign = reinterpret_cast<Uint>(y) & 0x80000000u;
  return reinterpret_cast<Float>(reinterpret_cast<Uint>(nearest(y)) | sign);
}

NIBBLE_INLINE void store(Float v, float* out, std::int64_t n) {
  std::memcpy(out, &v, 4 * static_cast<std::size_t>(n < kWidth ? n : kWidth));
}

NIBBLE_INLINE void store(Int v, std::uint8_t* out, std::int64_t n) {
  if (n >= kWidth) return store_low_bytes(reinterpret_cast<Integers>(v), out);
  std::uint8_t bytes[kWidth];
  store_low_bytes(reinterpret_cast<Integers>(v), bytes);
  std::memcpy(out, bytes, static_cast<std::size_t>(n));
}

// The first n <= kWidth codes, sign-extended; the other lanes are 0.
NIBBLE_INLINE Int load_codes(const std::uint8_t* codes, std::int64_t n) {
  if (n == kWidth) return reinterpret_cast<Int>(load_signed_bytes(codes));
  std::uint8_t bytes[kWidth] = {};
  std::memcpy(bytes, codes, static_cast<std::size_t>(n));
  return reinterpret_cast<Int>(load_signed_bytes(bytes));
}

// What the loops are specialised for.
template <DType input_, DType quotient_, DType product_, CodeFormat format_, bool has_zero_>
struct Kind {
  static constexpr DType input = input_;
  static constexpr DType quotient = quotient_;
  static constexpr DType product = product_;
  static constexpr CodeFormat format = format_;
  static constexpr bool has_zero = has_zero_;
};

template <class K>
NIBBLE_INLINE Float scaled(const RowQuantizer& q, Float x, Float scale, Float zero) {
  const Float y = round_as<K::quotient>(x / scale);
  return clamp<K::format>(q, K::has_zero ? round_as<K::quotient>(y + zero) : y + 0.0f);
}

template <class K>
NIBBLE_INLINE Float product(Float value, Float scale, Float zero) {
  if constexpr (K::has_zero) value = round_as<K::product>(value - zero);
  return round_as<K::product>(value * scale);
}

template <DType type>
NIBBLE_INLINE Float load_n(const void* row, std::int64_t first, std::int64_t n) {
  const char* at = static_cast<const char*>(row) + static_cast<std::int64_t>(kBytes<type>) * first;
  return n == kWidth ? load<type>(at) : load_some<type>(at, n);
}

// Calls body(first, n, scale, zero) for vectors of n <= kWidth values that share a run, or have one each.
template <class Body>
NIBBLE_INLINE void each_vector(std::int64_t count, std::int64_t run, const float* scale,
                               const float* zero_point, const Body& body) {
  if (run == 1) {  // a column of a solver: every value has its own
    for (std::int64_t i = 0; i < count; i += kWidth) {
      const std::int64_t n = i + kWidth <= count ? kWidth : count - i;
      const Float zero = zero_point == nullptr ? Float{} : load_n<DType::kF32>(zero_point, i, n);
      body(i, n, load_n<DType::kF32>(scale, i, n), zero);
    }
    return;
  }
  for (std::int64_t begin = 0, unit = 0; begin < count; begin += run, ++unit) {
    const std::int64_t end = begin + run < count ? begin + run : count;
    const Float s = splat(scale[unit]);
    const Float zero = zero_point == nullptr ? Float{} : splat(zero_point[unit]);
    std::int64_t i = begin;
    for (; i + kWidth <= end; i += kWidth) body(i, std::int64_t{kWidth}, s, zero);
    if (i < end) body(i, end - i, s, zero);
  }
}

// Calls `f` with a DType as a compile-time constant.
template <class F>
NIBBLE_INLINE void with_dtype(DType type, const F& f) {
  switch (type) {
    case DType::kBF16:
      return f(std::integral_constant<DType, DType::kBF16>{});
    case DType::kF16:
      return f(std::integral_constant<DType, DType::kF16>{});
    default:
      return f(std::integral_constant<DType, DType::kF32>{});
  }
}

// Calls Operation<Kind>::run(args...) for the kind the arguments describe; only integers have zero points.
template <template <class> class Operation, DType input, DType quotient, DType product, class... Args>
NIBBLE_INLINE void with_format(CodeFormat format, bool has_zero, Args... args) {
  if (format == CodeFormat::kE4M3) {
    Operation<Kind<input, quotient, product, CodeFormat::kE4M3, false>>::run(args...);
  } else if (format == CodeFormat::kE2M1) {
    Operation<Kind<input, quotient, product, CodeFormat::kE2M1, false>>::run(args...);
  } else if (has_zero) {
    Operation<Kind<input, quotient, product, CodeFormat::kInteger, true>>::run(args...);
  } else {
    Operation<Kind<input, quotient, product, CodeFormat::kInteger, false>>::run(args...);
  }
}

template <class K>
struct Quantize {
  static void run(const RowQuantizer* q, const void* row, std::int64_t count, std::int64_t run_length,
                  const float* scale, const float* zero_point, std::uint8_t* codes) {
    each_vector(
        count, run_length, scale, zero_point,
        [=](std::int64_t first, std::int64_t n, Float s, Float zero) __attribute__((always_inline)) {
          const Float x = load_n<K::input>(row, first, n);
          store(encode<K::format>(scaled<K>(*q, x, s, zero)), codes + first, n);
        });
  }
};

template <class K>
struct FakeQuantize {
  static void run(const RowQuantizer* q, const float* row, std::int64_t count, std::int64_t run_length,
                  const float* scale, const float* zero_point, float* out) {
    each_vector(
        count, run_length, scale, zero_point,
        [=](std::int64_t first, std::int64_t n, Float s, Float zero) __attribute__((always_inline)) {
          const Float y = scaled<K>(*q, load_n<K::input>(row, first, n), s, zero);
          store(product<K>(value_of<K::format>(y), s, zero), out + first, n);
        });
  }
};

template <class K>
struct Dequantize {
  static void run(const std::uint8_t* codes, std::int64_t count, std::int64_t run_length, const float* scale,
                  const float* zero_point, float* out) {
    each_vector(
        count, run_length, scale, zero_point,
        [=](std::int64_t first, std::int64_t n, Float s, Float zero) __attribute__((always_inline)) {
          const Float value = decode<K::format>(load_codes(codes + first, n));
          store(product<K>(value, s, zero), out + first, n);
        });
  }
};

void quantize(const RowQuantizer& q, const void* row, std::int64_t count, std::int64_t run,
              const float* scale, const float* zero_point, std::uint8_t* codes) {
  with_dtype(q.input, [&](auto input) {
    with_dtype(q.quotient, [&](auto quotient) {
      with_format<Quantize, input(), quotient(), DType::kF32>(q.format, zero_point != nullptr, &q, row, count,
                                                              run, scale, zero_point, codes);
    });
  });
}

void dequantize(CodeFormat format, DType product_type, const std::uint8_t* codes, std::int64_t count,
                std::int64_t run, const float* scale, const float* zero_point, float* out) {
  with_dtype(product_type, [&](auto product) {
    with_format<Dequantize, DType::kF32, DType::kF32, product()>(format, zero_point != nullptr, codes, count,
                                                                 run, scale, zero_point, out);
  });
}

void fake_quantize(const RowQuantizer& q, const float* row, std::int64_t count, std::int64_t run,
                   const float* scale, const float* zero_point, float* out) {
  with_dtype(q.quotient, [&](auto quotient) {
    with_dtype(q.product, [&](auto product) {
      with_format<FakeQuantize, DType::kF32, quotient(), product()>(q.format, zero_point != nullptr, &q, row,
                                                                    count, run, scale, zero_point, out);
    });
  });
}

void widen(DType input, const void* row, std::int64_t count, float* out) {
  with_dtype(input, [&](auto type) {
    std::int64_t i = 0;
    for (; i + kWidth <= count; i += kWidth) store(load_n<type()>(row, i, kWidth), out + i, kWidth);
    if (i < count) store(load_n<type()>(row, i, count - i), out + i, count - i);
  });
}

void join_nibbles(const std::uint8_t* codes, std::int64_t count, std::uint8_t flipped, std::uint8_t* out) {
  using Pairs = std::uint16_t __attribute__((vector_size(4 * kWidth)));
  const auto flip = static_cast<std::uint16_t>(flipped * 0x101);
  std::int64_t i = 0;
  for (; i + 4 * kWidth <= count; i += 4 * kWidth) {
    Pairs pairs;
    std::memcpy(&pairs, codes + i, sizeof pairs);
    pairs = (pairs ^ flip) & 0x0f0f;
    store_low_bytes_of_shorts(reinterpret_cast<Integers>((pairs | (pairs >> 4)) & 0xff), out + i / 2);
  }
  for (; i < count; i += 2) out[i / 2] = joined_nibbles(codes + i, count - i, flipped);
}

template <DType type>
NIBBLE_INLINE void store_narrow(Float v, char* out, std::int64_t n) {
  if constexpr (type == DType::kF32) {
    std::memcpy(out, &v, 4 * static_cast<std::size_t>(n));
  } else {
    Short bits;
    if constexpr (type == DType::kF16) {
      bits = narrow_half(v);
    } else {
      bits = __builtin_convertvector(reinterpret_cast<Uint>(round_as<type>(v)) >> 16, Short);
    }
    std::memcpy(out, &bits, 2 * static_cast<std::size_t>(n));
  }
}

void narrow(DType output, const float* row, std::int64_t count, void* out) {
  with_dtype(output, [&](auto type) {
    char* bytes = static_cast<char*>(out);
    const auto width = static_cast<std::int64_t>(kBytes<type()>);
    std::int64_t i = 0;
    for (; i + kWidth <= count; i += kWidth) {
      store_narrow<type()>(load_n<DType::kF32>(row, i, kWidth), bytes + width * i, kWidth);
    }
    if (i < count) store_narrow<type()>(load_n<DType::kF32>(row, i, count - i), bytes + width * i, count - i);
  });
}

#undef NIBBLE_INLINE

}  // namespace
}  // namespace nibble::kernels::quantize_rows
