// SPDX-License-Identifier: Apache-2.0
// Every CPU level of the row kernels gives the bits of the portable one, and the small floats round as a
// search over all their values would.
#include "kernels/quantize_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/rng.h"
#include "base/tensor.h"
#include "kernels/cpu_level.h"

namespace nibble {
namespace {

using kernels::CodeFormat;
using kernels::CpuLevel;
using kernels::RowQuantizer;

constexpr DType kDTypes[] = {DType::kF32, DType::kBF16, DType::kF16};

class LevelGuard {
 public:
  explicit LevelGuard(CpuLevel level) : before_(kernels::active_level()) { kernels::set_active_level(level); }
  ~LevelGuard() { kernels::set_active_level(before_); }

 private:
  CpuLevel before_;
};

// Ordinary values with specials between them.
std::vector<float> hard_values(std::size_t count, std::uint64_t seed, bool with_nan) {
  Rng rng(seed);
  const float specials[] = {0.0f,     -0.0f, 1e-42f, -1e-39f,   6e-8f,   65519.0f,
                            65520.0f, -7e4f, 3e38f,  -INFINITY, INFINITY};
  std::vector<float> values(count);
  for (float& value : values) {
    value = static_cast<float>(rng.normal() * std::exp2(rng.normal() * 3));
    if (rng.below(8) == 0) value = specials[rng.below(std::size(specials))];
    if (rng.below(4) == 0) value = std::round(value * 4) / 8;  // ties
    if (with_nan && rng.below(40) == 0) value = std::nanf("");
  }
  return values;
}

std::vector<RowQuantizer> all_quantizers() {
  std::vector<RowQuantizer> all;
  for (const DType input : kDTypes) {
    for (const DType quotient : kDTypes) {
      for (const DType product : kDTypes) {
        all.push_back({input, quotient, product, CodeFormat::kInteger, -128, 127});
        all.push_back({input, quotient, product, CodeFormat::kInteger, -4, 3});
        all.push_back({input, quotient, product, CodeFormat::kE4M3, -448, 448});
        all.push_back({input, quotient, product, CodeFormat::kE2M1, -6, 6});
      }
    }
  }
  return all;
}

struct Outputs {
  std::vector<float> min, max, simulated, decoded, widened;
  std::vector<std::uint8_t> codes;
  std::vector<std::uint8_t> narrowed, joined;
  std::vector<double> errors;

  // The first part that differs, or nothing.
  std::string difference(const Outputs& other) const {
    const auto differs = [](const auto& a, const auto& b) {
      return a.size() != b.size() || std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) != 0;
    };
    if (differs(min, other.min) || differs(max, other.max)) return "range";
    if (differs(codes, other.codes)) return "codes";
    if (differs(widened, other.widened)) return "widened";
    if (differs(simulated, other.simulated)) return "simulated";
    if (differs(decoded, other.decoded)) return "decoded";
    if (differs(errors, other.errors)) return "errors";
    if (differs(joined, other.joined)) return "joined";
    return differs(narrowed, other.narrowed) ? "narrowed" : "";
  }
};

Outputs run_level(CpuLevel level, const RowQuantizer& quantizer, const Tensor& row, std::int64_t run,
                  const std::vector<float>& scale, const float* zero) {
  const LevelGuard guard(level);
  const auto n = static_cast<std::size_t>(row.size());
  const auto count = row.size();
  Outputs out;
  out.min.resize(scale.size());
  out.max.resize(scale.size());
  out.codes.resize(n);
  out.simulated.resize(n);
  out.decoded.resize(n);
  out.widened.resize(n);
  out.narrowed.resize(n * dtype_bytes(quantizer.product));
  kernels::range_row(row.dtype(), row.bytes().data(), count, run, out.min.data(), out.max.data());
  kernels::quantize_row(quantizer, row.bytes().data(), count, run, scale.data(), zero, out.codes.data());
  kernels::widen_row(row.dtype(), row.bytes().data(), count, out.widened.data());
  kernels::fake_quantize_row(quantizer, out.widened.data(), count, run, scale.data(), zero,
                             out.simulated.data());
  kernels::dequantize_row(quantizer.format, quantizer.product, out.codes.data(), count, run, scale.data(),
                          zero, out.decoded.data());
  kernels::narrow_row(quantizer.product, out.widened.data(), count, out.narrowed.data());
  out.joined.resize((n + 1) / 2);
  kernels::join_nibbles_row(out.codes.data(), count, 8, out.joined.data());
  kernels::ErrorSums sums{1, 2, 1e-3};
  kernels::add_errors_of_row(row.dtype(), row.bytes().data(), count, out.decoded.data(), sums);
  for (const double sum : {sums.signal, sums.noise, sums.max_error})
    out.errors.push_back(std::isnan(sum) ? -1 : sum);  // a NaN has no bits to agree on
  return out;
}

constexpr std::pair<std::int64_t, std::int64_t> kLengths[] = {{131, 131}, {128, 32}, {100, 16},
                                                              {77, 5},    {37, 1},   {3, 64}};

TEST(QuantizeRows, LevelsAgreeToTheBit) {
  std::uint64_t seed = 0;
  for (const RowQuantizer& quantizer : all_quantizers()) {
    for (const auto& [count, run] : kLengths) {
      const bool with_nan = ++seed % 2 == 0;
      const std::vector<float> values = hard_values(static_cast<std::size_t>(count), seed, with_nan);
      const Tensor row = Tensor::from_f32(quantizer.input, {count}, values);
      const auto units = static_cast<std::size_t>((count + run - 1) / run);
      Rng rng(seed, 1);
      std::vector<float> scale(units);
      std::vector<float> zero(units);
      for (std::size_t u = 0; u < units; ++u) {
        scale[u] = static_cast<float>(std::exp2(rng.normal() * 4));
        zero[u] = static_cast<float>(rng.below(256)) - 128.0f;
      }
      const float* integer_zeros = quantizer.format == CodeFormat::kInteger ? zero.data() : nullptr;
      const float* no_zeros = nullptr;
      for (const float* zeros : {no_zeros, integer_zeros}) {
        const Outputs expected = run_level(CpuLevel::kPortable, quantizer, row, run, scale, zeros);
        for (const CpuLevel level : kernels::available_levels()) {
          EXPECT_EQ(run_level(level, quantizer, row, run, scale, zeros).difference(expected), "")
              << level_name(level) << " count " << count << " run " << run << " format "
              << static_cast<int>(quantizer.format) << " input " << safetensors_name(quantizer.input)
              << " quotient " << safetensors_name(quantizer.quotient) << " product "
              << safetensors_name(quantizer.product);
        }
      }
    }
  }
}

TEST(QuantizeRows, ErrorsOfARowAreThoseOfTheFormula) {
  for (const CpuLevel level : kernels::available_levels()) {
    const LevelGuard guard(level);
    Rng rng(7);
    std::vector<float> row(1003), stored(row.size());
    double signal = 0, noise = 0, largest = 0;
    for (std::size_t i = 0; i < row.size(); ++i) {
      row[i] = round_to(DType::kBF16, static_cast<float>(rng.normal()));
      stored[i] = row[i] + static_cast<float>(rng.normal() * 0.01);
      const double e = std::fabs(static_cast<double>(row[i]) - static_cast<double>(stored[i]));
      signal += static_cast<double>(row[i]) * static_cast<double>(row[i]);
      noise += e * e;
      largest = std::max(largest, e);
    }
    const Tensor narrow = Tensor::from_f32(DType::kBF16, {1003}, row);
    kernels::ErrorSums sums;
    kernels::add_errors_of_row(DType::kBF16, narrow.bytes().data(), 1003, stored.data(), sums);
    EXPECT_NEAR(sums.signal, signal, 1e-6 * signal) << level_name(level);
    EXPECT_NEAR(sums.noise, noise, 1e-6 * noise) << level_name(level);
    EXPECT_NEAR(sums.max_error, largest, 1e-6 * largest) << level_name(level);
  }
}

TEST(QuantizeRows, NibblesAreJoinedLowHalfFirst) {
  for (const CpuLevel level : kernels::available_levels()) {
    const LevelGuard guard(level);
    for (const std::size_t count :
         {std::size_t{1}, std::size_t{2}, std::size_t{31}, std::size_t{67}, std::size_t{256}}) {
      std::vector<std::uint8_t> codes(count), joined((count + 1) / 2);
      for (std::size_t i = 0; i < count; ++i) codes[i] = static_cast<std::uint8_t>(37 * i + 11);
      kernels::join_nibbles_row(codes.data(), static_cast<std::int64_t>(count), 8, joined.data());
      for (std::size_t i = 0; i < count; ++i) {
        EXPECT_EQ((joined[i / 2] >> (4 * (i % 2))) & 15, (codes[i] & 15) ^ 8)
            << level_name(level) << " " << i;
      }
      EXPECT_EQ(joined.back() >> (count % 2 == 1 ? 4 : 8), 0);
    }
  }
}

TEST(QuantizeRows, ErrorSumsAgreeToTheBitAndWithTheFormula) {
  std::uint64_t seed = 0;
  for (const DType dtype : kDTypes) {
    for (const auto& [format, bound] :
         {std::pair{CodeFormat::kInteger, 7.0f}, {CodeFormat::kE4M3, 448.0f}, {CodeFormat::kE2M1, 6.0f}}) {
      const RowQuantizer quantizer{dtype, dtype, dtype, format, -bound, bound};
      for (const float exponent : {1.0f, 2.0f, 2.4f, 3.0f, 0.7f}) {
        for (const auto& [count, run] : kLengths) {
          Rng rng(++seed);
          std::vector<float> row(static_cast<std::size_t>(count));
          std::vector<float> importance(row.size());
          for (float& x : row) x = round_to(dtype, static_cast<float>(rng.normal()));
          for (float& x : importance) x = static_cast<float>(rng.uniform());
          const auto units = static_cast<std::size_t>((count + run - 1) / run);
          const std::vector<float> scale(units, round_to(dtype, 2.5f / bound));
          const std::vector<float> zero(units, format == CodeFormat::kInteger ? 1.0f : 0.0f);
          const kernels::ErrorNorm norm{exponent, seed % 2 == 0 ? dtype : DType::kF32};
          const float* zeros = format == CodeFormat::kInteger && seed % 3 == 0 ? zero.data() : nullptr;
          const float* weights = seed % 4 < 2 ? importance.data() : nullptr;
          std::vector<double> expected(units);
          std::vector<float> simulated(row.size());
          kernels::fake_quantize_row(quantizer, row.data(), count, run, scale.data(), zeros,
                                     simulated.data());
          for (std::size_t i = 0; i < row.size(); ++i) {
            const double d = std::fabs(static_cast<double>(round_to(norm.rounding, simulated[i] - row[i])));
            const double term = std::pow(d, static_cast<double>(exponent));
            expected[i / static_cast<std::size_t>(run)] +=
                weights == nullptr ? term : term * static_cast<double>(weights[i]);
          }
          std::vector<double> portable(units);
          for (const CpuLevel level : kernels::available_levels()) {
            const LevelGuard guard(level);
            std::vector<double> sums(units);
            kernels::error_row(quantizer, norm, row.data(), count, run, scale.data(), zeros, weights,
                               sums.data());
            if (level == CpuLevel::kPortable) portable = sums;
            EXPECT_EQ(sums, portable) << level_name(level) << " " << exponent << " " << count << "/" << run;
          }
          const double tolerance = norm.rounding == DType::kF32 ? 1e-6 : 1e-2;
          for (std::size_t u = 0; u < units; ++u)
            EXPECT_NEAR(portable[u], expected[u], tolerance * expected[u] + 1e-12);
        }
      }
    }
  }
}

TEST(QuantizeRows, RangesFindTheNaN) {
  for (const CpuLevel level : kernels::available_levels()) {
    const LevelGuard guard(level);
    for (std::int64_t bad = 0; bad < 50; ++bad) {
      std::vector<float> row(50, 1.0f);
      row[static_cast<std::size_t>(bad)] = std::nanf("");
      std::vector<float> min(5), max(5);
      kernels::range_row(DType::kF32, row.data(), 50, 10, min.data(), max.data());
      for (std::int64_t u = 0; u < 5; ++u) {
        EXPECT_EQ(std::isnan(min[static_cast<std::size_t>(u)]), u == bad / 10);
        EXPECT_EQ(std::isnan(max[static_cast<std::size_t>(u)]), u == bad / 10);
      }
    }
  }
}

// E4. The nearest of all finite values; of two equally near, the one with an even code.
std::uint8_t search(CodeFormat format, float x) {
  const int codes = format == CodeFormat::kE4M3 ? 256 : 16;
  const float one = 1.0f;
  int best = -1;
  double best_error = 0;
  for (int c = 0; c < codes; ++c) {
    const auto code = static_cast<std::uint8_t>(c);
    float value = 0;
    kernels::dequantize_row(format, DType::kF32, &code, 1, 1, &one, nullptr, &value);
    if (std::isnan(value) || std::signbit(value) != (x < 0)) continue;
    const double error = std::fabs(static_cast<double>(value) - static_cast<double>(x));
    if (best < 0 || error < best_error || (error == best_error && c % 2 == 0)) {
      best = c;
      best_error = error;
    }
  }
  return static_cast<std::uint8_t>(best);
}

TEST(QuantizeRows, SmallFloatsEqualABruteForceSearch) {
  const float one = 1.0f;
  for (const CodeFormat format : {CodeFormat::kE4M3, CodeFormat::kE2M1}) {
    const float bound = format == CodeFormat::kE4M3 ? 448.0f : 6.0f;
    std::vector<float> inputs;
    std::vector<float> values;
    for (int c = 0; c < (format == CodeFormat::kE4M3 ? 127 : 8); ++c) {
      const auto code = static_cast<std::uint8_t>(c);
      float value = 0;
      kernels::dequantize_row(format, DType::kF32, &code, 1, 1, &one, nullptr, &value);
      values.push_back(value);
    }
    for (std::size_t i = 0; i + 1 < values.size(); ++i) {
      const float middle = (values[i] + values[i + 1]) / 2;
      for (const float x : {values[i], middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e9f)}) {
        inputs.push_back(x);
        inputs.push_back(-x);
      }
    }
    Rng rng(1);
    for (int i = 0; i < 20000; ++i)
      inputs.push_back(static_cast<float>((2 * rng.uniform() - 1) * 1.1) * bound);
    for (int i = 0; i < 5000; ++i) inputs.push_back(static_cast<float>(0.03 * rng.normal()));
    const RowQuantizer quantizer{DType::kF32, DType::kF32, DType::kF32, format, -bound, bound};
    std::vector<std::uint8_t> codes(inputs.size());
    const auto count = static_cast<std::int64_t>(inputs.size());
    for (const CpuLevel level : kernels::available_levels()) {
      const LevelGuard guard(level);
      kernels::quantize_row(quantizer, inputs.data(), count, count, &one, nullptr, codes.data());
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        ASSERT_EQ(codes[i], search(format, inputs[i] == 0.0f ? 0.0f : inputs[i])) << inputs[i];
      }
    }
  }
}

}  // namespace
}  // namespace nibble
