// SPDX-License-Identifier: Apache-2.0
// One value at a time, in the words of the specification: the oracle of the other levels.
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/quantize_rows/table.h"

namespace nibble::kernels::quantize_rows {
namespace {

float load(DType input, const void* row, std::int64_t i) {
  switch (input) {
    case DType::kBF16:
      return bf16_to_f32(static_cast<const std::uint16_t*>(row)[i]);
    case DType::kF16:
      return f16_to_f32(static_cast<const std::uint16_t*>(row)[i]);
    default:
      return static_cast<const float*>(row)[i];
  }
}

void range(DType input, const void* row, std::int64_t count, std::int64_t run, float* min, float* max) {
  for (std::int64_t begin = 0, unit = 0; begin < count; begin += run, ++unit) {
    const std::int64_t end = begin + run < count ? begin + run : count;
    float low = load(input, row, begin);
    float high = low;
    for (std::int64_t i = begin; i < end; ++i) {
      const float x = load(input, row, i);
      if (x < low) low = x;
      if (x > high) high = x;
      if (std::isnan(x)) low = high = x;  // stays: comparisons with it fail
    }
    min[unit] = low + 0.0f;  // a zero is +0 whatever the order of the values
    max[unit] = high + 0.0f;
  }
}

// Ties go to the even index, as the format's rounding does.
std::uint8_t e2m1_code(float y) {
  const float a = std::fabs(y);
  const int index =
      (a > 0.25f) + (a >= 0.75f) + (a > 1.25f) + (a >= 1.75f) + (a > 2.5f) + (a >= 3.5f) + (a > 5.0f);
  return static_cast<std::uint8_t>(index + (y < 0.0f ? 8 : 0));
}

std::uint8_t encode(CodeFormat format, float y) {
  switch (format) {
    case CodeFormat::kInteger:
      return static_cast<std::uint8_t>(static_cast<std::int8_t>(std::nearbyint(y)));
    case CodeFormat::kE4M3:
      return f32_to_f8e4m3(y);
    case CodeFormat::kE2M1:
      return e2m1_code(y);
  }
  return 0;
}

// Integers have no NaN, so the lower bound takes it; the float formats let it through.
float clamp(const RowQuantizer& q, float y) {
  if (std::isnan(y) && q.format != CodeFormat::kInteger) return y;
  const float low = y > q.code_min ? y : q.code_min;
  return low < q.code_max ? low : q.code_max;
}

float scaled(const RowQuantizer& q, float x, float scale, const float* zero_point) {
  const float y = round_to(q.quotient, x / scale);
  return clamp(q, round_to(q.quotient, y + (zero_point == nullptr ? 0.0f : *zero_point)));
}

const float* at(const float* zero_point, std::int64_t unit) {
  return zero_point == nullptr ? nullptr : zero_point + unit;
}

void quantize(const RowQuantizer& q, const void* row, std::int64_t count, std::int64_t run,
              const float* scale, const float* zero_point, std::uint8_t* codes) {
  for (std::int64_t i = 0; i < count; ++i) {
    codes[i] = encode(q.format, scaled(q, load(q.input, row, i), scale[i / run], at(zero_point, i / run)));
  }
}

float decode(CodeFormat format, std::uint8_t code) {
  switch (format) {
    case CodeFormat::kInteger:
      return static_cast<float>(static_cast<std::int8_t>(code));
    case CodeFormat::kE4M3:
      return f8e4m3_to_f32(code);
    case CodeFormat::kE2M1:
      return kE2M1Values[code & 15];
  }
  return 0;
}

float product_of(DType product, float value, float scale, const float* zero_point) {
  if (zero_point != nullptr) value = round_to(product, value - *zero_point);
  return round_to(product, value * scale);
}

void dequantize(CodeFormat format, DType product, const std::uint8_t* codes, std::int64_t count,
                std::int64_t run, const float* scale, const float* zero_point, float* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = product_of(product, decode(format, codes[i]), scale[i / run], at(zero_point, i / run));
  }
}

void fake_quantize(const RowQuantizer& q, const float* row, std::int64_t count, std::int64_t run,
                   const float* scale, const float* zero_point, float* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float* zero = at(zero_point, i / run);
    const float y = scaled(q, row[i], scale[i / run], zero);
    const float value =
        q.format == CodeFormat::kInteger ? std::nearbyint(y) : decode(q.format, encode(q.format, y));
    out[i] = product_of(q.product, value, scale[i / run], zero);
  }
}

float power(float d, float exponent) {
  if (exponent == 1.0f) return d;
  if (exponent == 2.0f) return d * d;
  if (exponent == 3.0f) return d * d * d;
  const auto bits = std::bit_cast<std::int32_t>(d);
  if (bits < 0x00800000) return 0.0f;    // below 2^-126
  if (bits >= 0x7f800000) return d * d;  // infinity, NaN
  const std::int32_t high = bits + (0x3f800000 - 0x3f3504f3);
  const float e = static_cast<float>((high >> 23) - 127);
  const float m = std::bit_cast<float>((high & 0x007fffff) + 0x3f3504f3);
  const float t = (m - 1.0f) / (m + 1.0f);
  const float t2 = t * t;
  float series = kLog2Series[4];
  for (int i = 3; i >= 0; --i) series = series * t2 + kLog2Series[i];
  const float head =
      std::bit_cast<float>(std::bit_cast<std::int32_t>(exponent) & static_cast<std::int32_t>(0xfffff000));
  const float whole = head * e;
  const float n1 = std::nearbyint(whole);
  float f = (whole - n1) + ((exponent - head) * e + exponent * (series * t));
  const float n2 = std::nearbyint(f);
  f = f - n2;
  const float n = n1 + n2;
  float result = kExp2Series[7];
  for (int i = 6; i >= 0; --i) result = result * f + kExp2Series[i];
  if (n < -126.0f) return 0.0f;
  if (n > 127.0f) return std::numeric_limits<float>::infinity();
  return result * std::bit_cast<float>((static_cast<std::int32_t>(n) + 127) << 23);
}

void error(const RowQuantizer& q, const ErrorNorm& norm, const float* row, std::int64_t count,
           std::int64_t run, const float* scale, const float* zero_point, const float* importance,
           double* sums) {
  for (std::int64_t begin = 0, unit = 0; begin < count; begin += run, ++unit) {
    const std::int64_t end = begin + run < count ? begin + run : count;
    for (std::int64_t first = begin; first < end; first += kStretch) {
      const std::int64_t last = first + kStretch < end ? first + kStretch : end;
      float chain[kChains] = {};
      for (std::int64_t i = first; i < last; ++i) {
        float stored = 0;
        fake_quantize(q, row + i, 1, 1, scale + unit, at(zero_point, unit), &stored);
        const float d = std::fabs(round_to(norm.rounding, stored - row[i]));
        const float term = round_to(norm.rounding, power(d, norm.exponent));
        chain[(i - first) % kChains] += importance == nullptr ? term : term * importance[i];
      }
      for (const float part : chain) sums[unit] += static_cast<double>(part);
    }
  }
}

void add_errors(DType input, const void* row, std::int64_t count, const float* stored, ErrorSums* sums) {
  double signal[kChains] = {};
  double noise[kChains] = {};
  for (std::int64_t first = 0; first < count; first += kStretch) {
    const std::int64_t last = first + kStretch < count ? first + kStretch : count;
    float squares[kChains] = {};
    float errors[kChains] = {};
    for (std::int64_t i = first; i < last; ++i) {
      const float x = load(input, row, i);
      const float e = std::fabs(x - stored[i]);
      squares[(i - first) % kChains] += x * x;
      errors[(i - first) % kChains] += e * e;
      if (e > sums->max_error) sums->max_error = static_cast<double>(e);
    }
    for (int chain = 0; chain < kChains; ++chain) {
      signal[chain] += static_cast<double>(squares[chain]);
      noise[chain] += static_cast<double>(errors[chain]);
    }
  }
  for (int chain = 0; chain < kChains; ++chain) {
    sums->signal += signal[chain];
    sums->noise += noise[chain];
  }
}

void join_nibbles(const std::uint8_t* codes, std::int64_t count, std::uint8_t flipped, std::uint8_t* out) {
  for (std::int64_t i = 0; i < count; i += 2) out[i / 2] = joined_nibbles(codes + i, count - i, flipped);
}

void widen(DType input, const void* row, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = load(input, row, i);
}

void narrow(DType output, const float* row, std::int64_t count, void* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    switch (output) {
      case DType::kBF16:
        static_cast<std::uint16_t*>(out)[i] = f32_to_bf16(row[i]);
        break;
      case DType::kF16:
        static_cast<std::uint16_t*>(out)[i] = f32_to_f16(row[i]);
        break;
      default:
        static_cast<float*>(out)[i] = row[i];
        break;
    }
  }
}

}  // namespace

const Kernels kPortable{range,      quantize,     dequantize, fake_quantize, error,
                        add_errors, join_nibbles, widen,      narrow};

}  // namespace nibble::kernels::quantize_rows
