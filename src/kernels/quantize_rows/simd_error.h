// SPDX-License-Identifier: Apache-2.0
// The error of quantization on vectors; the formulas of ref.cc, operation by operation. Included after
// simd.h.
#pragma once

namespace nibble::kernels::quantize_rows {
namespace {

#define NIBBLE_INLINE [[gnu::always_inline]] inline

NIBBLE_INLINE Float power(Float d, float exponent) {
  if (exponent == 1.0f) return d;
  if (exponent == 2.0f) return d * d;
  if (exponent == 3.0f) return d * d * d;
  const Int bits = reinterpret_cast<Int>(d);
  const Int high = bits + (0x3f800000 - 0x3f3504f3);
  const Float e = __builtin_convertvector((high >> 23) - 127, Float);
  const Float m = reinterpret_cast<Float>((high & 0x007fffff) + 0x3f3504f3);
  const Float t = (m - 1.0f) / (m + 1.0f);
  const Float t2 = t * t;
  Float series = splat(kLog2Series[4]);
  for (int i = 3; i >= 0; --i) series = series * t2 + kLog2Series[i];
  std::int32_t exponent_bits;
  std::memcpy(&exponent_bits, &exponent, sizeof exponent_bits);
  exponent_bits &= static_cast<std::int32_t>(0xfffff000);
  float head;
  std::memcpy(&head, &exponent_bits, sizeof head);
  const Float whole = head * e;
  const Float n1 = nearest(whole);
  Float f = (whole - n1) + ((exponent - head) * e + exponent * (series * t));
  const Float n2 = nearest(f);
  f = f - n2;
  const Float n = n1 + n2;
  Float result = splat(kExp2Series[7]);
  for (int i = 6; i >= 0; --i) result = result * f + kExp2Series[i];
  const Float bounded = n > -127.0f ? (n < 127.0f ? n : splat(127.0f)) : splat(-127.0f);
  result = result * reinterpret_cast<Float>((__builtin_convertvector(bounded, Int) + 127) << 23);
  result = n < -126.0f ? Float{} : (n > 127.0f ? splat(__builtin_inff()) : result);
  return bits < 0x00800000 ? Float{} : (bits >= 0x7f800000 ? d * d : result);
}

// The other lanes become 0.
NIBBLE_INLINE Float first_lanes(Float v, std::int64_t n) {
  float lanes[kWidth] = {};
  std::memcpy(lanes, &v, 4 * static_cast<std::size_t>(n));
  std::memcpy(&v, lanes, sizeof v);
  return v;
}

// Lane i of vector v of a stretch belongs to chain (v * kWidth + i) % kChains.
template <class K, DType rounding>
NIBBLE_INLINE void add_errors(const RowQuantizer& q, float exponent, const float* row, std::int64_t first,
                              std::int64_t last, Float scale, Float zero, const float* importance,
                              double* sum) {
  constexpr int kParts = kChains / kWidth;
  Float chains[kParts] = {};
  for (std::int64_t i = first; i < last;) {
    for (int part = 0; part < kParts && i < last; ++part, i += kWidth) {
      const std::int64_t n = last - i < kWidth ? last - i : kWidth;
      const Float x = load_n<DType::kF32>(row, i, n);
      const Float stored = product<K>(value_of<K::format>(scaled<K>(q, x, scale, zero)), scale, zero);
      const Float difference = round_as<rounding>(stored - x);
      const Float d = reinterpret_cast<Float>(reinterpret_cast<Int>(difference) & 0x7fffffff);
      Float term = round_as<rounding>(power(d, exponent));
      if (importance != nullptr) term = term * load_n<DType::kF32>(importance, i, n);
      if (n < kWidth) term = first_lanes(term, n);
      chains[part] += term;
    }
  }
  float lanes[kChains];
  std::memcpy(lanes, chains, sizeof lanes);
  for (const float part : lanes) *sum += static_cast<double>(part);
}

template <class K>
struct SumErrors {
  static void run(const RowQuantizer* q, const ErrorNorm* norm, const float* row, std::int64_t count,
                  std::int64_t run_length, const float* scale, const float* zero_point,
                  const float* importance, double* sums) {
    for (std::int64_t begin = 0, unit = 0; begin < count; begin += run_length, ++unit) {
      const std::int64_t end = begin + run_length < count ? begin + run_length : count;
      const Float s = splat(scale[unit]);
      const Float zero = zero_point == nullptr ? Float{} : splat(zero_point[unit]);
      for (std::int64_t first = begin; first < end; first += kStretch) {
        const std::int64_t last = first + kStretch < end ? first + kStretch : end;
        if (norm->rounding == DType::kF32) {
          add_errors<K, DType::kF32>(*q, norm->exponent, row, first, last, s, zero, importance, sums + unit);
        } else {
          add_errors<K, K::product>(*q, norm->exponent, row, first, last, s, zero, importance, sums + unit);
        }
      }
    }
  }
};

void error(const RowQuantizer& q, const ErrorNorm& norm, const float* row, std::int64_t count,
           std::int64_t run, const float* scale, const float* zero_point, const float* importance,
           double* sums) {
  with_dtype(q.product, [&](auto type) {
    with_format<SumErrors, DType::kF32, type(), type()>(q.format, zero_point != nullptr, &q, &norm, row,
                                                        count, run, scale, zero_point, importance, sums);
  });
}

using Half = float __attribute__((vector_size(2 * kWidth)));
using Double = double __attribute__((vector_size(4 * kWidth)));

// kWidth chains: fp32 within a stretch, fp64 over the row.
struct Chains {
  Float stretch = {};
  Double row[2] = {};

  NIBBLE_INLINE void end_stretch() {
    Half halves[2];
    std::memcpy(halves, &stretch, sizeof halves);
    row[0] += __builtin_convertvector(halves[0], Double);
    row[1] += __builtin_convertvector(halves[1], Double);
    stretch = Float{};
  }
  NIBBLE_INLINE void add_to(double* sum) const {
    for (const Double& half : row) {
      for (int lane = 0; lane < kWidth / 2; ++lane) *sum += half[lane];
    }
  }
};

struct ErrorChains {
  Chains signal, noise;
  Float largest = {};

  NIBBLE_INLINE void add(Float x, Float difference) {
    const Float e = reinterpret_cast<Float>(reinterpret_cast<Int>(difference) & 0x7fffffff);
    signal.stretch += x * x;
    noise.stretch += e * e;
    largest = e > largest ? e : largest;
  }
};

template <DType input>
NIBBLE_INLINE void add_errors_typed(const void* row, std::int64_t count, const float* stored,
                                    ErrorSums* sums) {
  constexpr int kParts = kChains / kWidth;
  ErrorChains parts[kParts];
  for (std::int64_t first = 0; first < count; first += kStretch) {
    const std::int64_t last = first + kStretch < count ? first + kStretch : count;
    std::int64_t i = first;
    for (; i + kChains <= last; i += kChains) {
      for (int part = 0; part < kParts; ++part) {
        const Float x = load_n<input>(row, i + part * kWidth, kWidth);
        parts[part].add(x, x - load_n<DType::kF32>(stored, i + part * kWidth, kWidth));
      }
    }
    for (int part = 0; i < last; ++part, i += kWidth) {
      const std::int64_t n = last - i < kWidth ? last - i : kWidth;
      const Float x = first_lanes(load_n<input>(row, i, n), n);
      parts[part].add(x, x - first_lanes(load_n<DType::kF32>(stored, i, n), n));
    }
    for (ErrorChains& part : parts) {
      part.signal.end_stretch();
      part.noise.end_stretch();
    }
  }
  for (const ErrorChains& part : parts) {
    part.signal.add_to(&sums->signal);
    part.noise.add_to(&sums->noise);
    const auto peak = static_cast<double>(reduce<true>(part.largest));
    sums->max_error = peak > sums->max_error ? peak : sums->max_error;
  }
}

void add_errors_of_row(DType input, const void* row, std::int64_t count, const float* stored,
                       ErrorSums* sums) {
  with_dtype(input, [&](auto type) { add_errors_typed<type()>(row, count, stored, sums); });
}

#undef NIBBLE_INLINE

}  // namespace
}  // namespace nibble::kernels::quantize_rows
