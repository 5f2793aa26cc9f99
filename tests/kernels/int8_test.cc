// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/levels.h"
#include "kernels/packed_linear.h"
#include "kernels/quantize.h"

namespace nibble::kernels {
namespace {

using testing::at_every_level;
using testing::Random;

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

// All pairs of codes at once: rows hold every weight code, tokens every activation code, four products per
// quad so that a saturating 16-bit sum would show.
TEST(Int8Test, EveryPairOfCodesIsExact) {
  ThreadPool pool(2);
  for (const int bits : {8, 4}) {
    const std::int64_t rows = 1 << bits, cols = 44;
    const int half = 1 << (bits - 1);
    std::vector<std::int8_t> w(at(rows * cols)), x(at(256 * cols));
    for (std::int64_t r = 0; r < rows; ++r)
      std::fill_n(w.begin() + r * cols, cols, static_cast<std::int8_t>(r - half));
    for (std::int64_t t = 0; t < 256; ++t)
      std::fill_n(x.begin() + t * cols, cols, static_cast<std::int8_t>(t - 128));
    const std::vector<float> ones(256, 1.0f);
    const PackedWeights packed = pack_codes(pool, {.rows = rows,
                                                   .cols = cols,
                                                   .bits = bits,
                                                   .codes = w.data(),
                                                   .ld = cols,
                                                   .scales = ones.data(),
                                                   .scale_ld = 1});
    at_every_level([&](CpuLevel) {
      std::vector<float> y(at(256 * rows));
      linear_int8(pool, {.tokens = 256, .codes = x.data(), .ld = cols, .scales = ones.data()}, packed,
                  y.data(), rows);
      for (std::int64_t t = 0; t < 256; ++t) {
        for (std::int64_t r = 0; r < rows; ++r) {
          ASSERT_EQ(y[at(t * rows + r)], static_cast<float>((t - 128) * (r - half) * cols));
        }
      }
    });
  }
}

struct Case {
  int bits;
  std::int64_t tokens, rows, cols, group_size;
  bool w_zeros, x_zeros;
};

// The formula of the header, step by step.
std::vector<float> expected(const Case& c, const std::vector<std::int8_t>& w,
                            const std::vector<std::int8_t>& x, const std::vector<float>& ws,
                            const std::vector<std::int8_t>& wz, const std::vector<float>& xs,
                            const std::vector<std::int32_t>& xz) {
  const std::int64_t size = c.group_size == 0 ? c.cols : c.group_size, groups = (c.cols + size - 1) / size;
  std::vector<float> y;
  for (std::int64_t t = 0; t < c.tokens; ++t) {
    for (std::int64_t r = 0; r < c.rows; ++r) {
      float sum = 0, row_sum = 0;
      for (std::int64_t g = 0; g < groups; ++g) {
        std::int64_t dot = 0, total = 0;
        const int zero = c.w_zeros ? wz[at(r * groups + g)] : 0;
        for (std::int64_t k = g * size; k < std::min(c.cols, (g + 1) * size); ++k) {
          dot += (w[at(r * c.cols + k)] - zero) * x[at(t * c.cols + k)];
          total += w[at(r * c.cols + k)] - zero;
        }
        sum += static_cast<float>(dot) * ws[at(r * groups + g)];
        row_sum += static_cast<float>(total) * ws[at(r * groups + g)];
      }
      if (c.x_zeros) sum -= static_cast<float>(xz[at(t)]) * row_sum;
      y.push_back(sum * xs[at(t)]);
    }
  }
  return y;
}

TEST(Int8Test, GroupsZerosAndRaggedEndsAreBitExactAtEveryLevel) {
  ThreadPool one(1), four(4);
  const Case cases[] = {{8, 1, 1, 1, 0, false, false},      {8, 7, 33, 65, 0, true, true},
                        {4, 7, 33, 65, 0, true, true},      {8, 33, 65, 300, 128, false, true},
                        {4, 33, 65, 300, 128, true, false}, {4, 2, 17, 72, 24, true, true},
                        {8, 65, 7, 40, 8, true, false},     {4, 1, 48, 1024, 32, false, false}};
  for (const Case& c : cases) {
    Random random(static_cast<std::uint64_t>(c.tokens * 100 + c.cols));
    const std::int64_t size = c.group_size == 0 ? c.cols : c.group_size, groups = (c.cols + size - 1) / size;
    const int half = 1 << (c.bits - 1);
    std::vector<std::int8_t> w, x, wz;
    std::vector<std::int32_t> xz;
    const auto code = [&](int h) {
      return static_cast<std::int8_t>(static_cast<int>(random.bits() % (2u * static_cast<unsigned>(h))) - h);
    };
    for (std::int64_t i = 0; i < c.rows * c.cols; ++i) w.push_back(code(half));
    for (std::int64_t i = 0; i < c.tokens * c.cols; ++i) x.push_back(code(128));
    for (std::int64_t i = 0; i < c.rows * groups; ++i) wz.push_back(code(half));
    for (std::int64_t i = 0; i < c.tokens; ++i) xz.push_back(code(128));
    const auto ws = random.floats(c.rows * groups, 0.01f, 0.1f), xs = random.floats(c.tokens, 0.01f, 0.1f);
    const PackedWeights packed = pack_codes(four, {.rows = c.rows,
                                                   .cols = c.cols,
                                                   .bits = c.bits,
                                                   .codes = w.data(),
                                                   .ld = c.cols,
                                                   .scales = ws.data(),
                                                   .zeros = c.w_zeros ? wz.data() : nullptr,
                                                   .scale_ld = groups,
                                                   .group_size = c.group_size});
    ASSERT_TRUE(has_int8_path(packed));
    const std::vector<float> exact = expected(c, w, x, ws, wz, xs, xz);
    at_every_level([&](CpuLevel) {
      for (ThreadPool* pool : {&one, &four}) {
        const std::int64_t ldy = c.rows + 3;
        std::vector<float> y(at(c.tokens * ldy), 7.0f);
        linear_int8(*pool,
                    {.tokens = c.tokens,
                     .codes = x.data(),
                     .ld = c.cols,
                     .scales = xs.data(),
                     .zeros = c.x_zeros ? xz.data() : nullptr},
                    packed, y.data(), ldy);
        for (std::int64_t t = 0; t < c.tokens; ++t) {
          for (std::int64_t r = 0; r < ldy; ++r) {
            ASSERT_EQ(y[at(t * ldy + r)], r < c.rows ? exact[at(t * c.rows + r)] : 7.0f)
                << c.bits << " " << c.cols;
          }
        }
      }
    });
  }
}

TEST(Int8Test, LongRowsOfExtremeCodesDoNotOverflow) {
  ThreadPool pool(2);
  const std::int64_t cols =
      70000;  // -128 * -128 * 70000 fits; the raw unsigned sums are cut before they wrap
  const std::vector<std::int8_t> codes(at(cols), std::int8_t{-128});
  const float one = 1.0f;
  const PackedWeights packed = pack_codes(
      pool,
      {.rows = 1, .cols = cols, .bits = 8, .codes = codes.data(), .ld = cols, .scales = &one, .scale_ld = 1});
  at_every_level([&](CpuLevel) {
    float y = 0;
    linear_int8(pool, {.tokens = 1, .codes = codes.data(), .ld = cols, .scales = &one}, packed, &y, 1);
    EXPECT_NEAR(y, 128.0 * 128.0 * static_cast<double>(cols), 128.0);
  });
}

TEST(Int8Test, ActOrderMovesTheActivationsToo) {
  ThreadPool pool(2);
  const std::int64_t rows = 5, cols = 64, tokens = 3;
  Random random(1);
  std::vector<std::int8_t> w, x;
  for (std::int64_t i = 0; i < rows * cols; ++i)
    w.push_back(static_cast<std::int8_t>(random.bits() % 16) - 8);
  for (std::int64_t i = 0; i < tokens * cols; ++i)
    x.push_back(static_cast<std::int8_t>(random.bits() & 0xff));
  std::vector<std::int32_t> index;
  for (std::int64_t j = 0; j < cols; ++j) index.push_back(static_cast<std::int32_t>(j * 5 % cols / 16));
  const auto ws = random.floats(rows * 4, 0.5f, 1.0f), xs = random.floats(tokens, 0.5f, 1.0f);
  const PackedWeights packed = pack_codes(pool, {.rows = rows,
                                                 .cols = cols,
                                                 .bits = 4,
                                                 .codes = w.data(),
                                                 .ld = cols,
                                                 .scales = ws.data(),
                                                 .scale_ld = 4,
                                                 .group_size = 16,
                                                 .group_index = index.data()});
  at_every_level([&](CpuLevel) {
    std::vector<float> y(at(tokens * rows));
    linear_int8(pool, {.tokens = tokens, .codes = x.data(), .ld = cols, .scales = xs.data()}, packed,
                y.data(), rows);
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t r = 0; r < rows; ++r) {
        double sum = 0;
        for (std::int64_t j = 0; j < cols; ++j) {
          sum +=
              static_cast<double>(ws[at(r * 4 + index[at(j)])]) * w[at(r * cols + j)] * x[at(t * cols + j)];
        }
        sum *= static_cast<double>(xs[at(t)]);
        ASSERT_NEAR(y[at(t * rows + r)], sum, 1e-5 * (1 + std::abs(sum)));
      }
    }
  });
}

TEST(Int8Test, SaysWhichWeightsItTakes) {
  ThreadPool pool(1);
  const std::vector<std::int8_t> codes(64);
  const std::vector<float> scales(64, 1.0f);
  CodedWeights w{.rows = 1,
                 .cols = 64,
                 .bits = 4,
                 .codes = codes.data(),
                 .ld = 64,
                 .scales = scales.data(),
                 .scale_ld = 16,
                 .group_size = 16};
  EXPECT_TRUE(has_int8_path(pack_codes(pool, w)));
  w.group_size = 12;
  EXPECT_FALSE(has_int8_path(pack_codes(pool, w)));
  w.group_size = 0;
  w.bits = 3;
  EXPECT_FALSE(has_int8_path(pack_codes(pool, w)));
  EXPECT_FALSE(has_int8_path(pack_dense(pool, 1, 64, scales.data(), 64)));
}

TEST(QuantizeTest, RoundsHalfToEvenAfterTheZeroPoint) {
  ThreadPool pool(2);
  at_every_level([&](CpuLevel) {
    for (const std::int64_t cols : {1, 7, 33, 65}) {
      const std::int64_t rows = 5;
      auto x = Random(2).floats(rows * cols, -30, 30);
      for (std::int64_t i = 0; i < cols; ++i) x[at(i)] = static_cast<float>(i) * 0.5f - 8.0f;  // exact halves
      const float scales[] = {1.0f, 0.1f, 0.3f, 2.0f, 0.05f};
      const std::int32_t zeros[] = {1, 0, -5, 127, -128};
      std::vector<std::int8_t> codes(at(rows * cols)), plain(codes.size());
      quantize_rows(pool, rows, cols, x.data(), cols, scales, zeros, -128, 127, codes.data(), cols);
      quantize_rows(pool, rows, cols, x.data(), cols, scales, nullptr, -8, 7, plain.data(), cols);
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t i = 0; i < cols; ++i) {
          const float q = x[at(r * cols + i)] / scales[r];
          ASSERT_EQ(codes[at(r * cols + i)],
                    std::nearbyint(std::clamp(q + static_cast<float>(zeros[r]), -128.0f, 127.0f)));
          ASSERT_EQ(plain[at(r * cols + i)], std::nearbyint(std::clamp(q, -8.0f, 7.0f)));
        }
      }
    }
  });
}

TEST(QuantizeTest, RangeFindsExtremesAndNan) {
  ThreadPool pool(2);
  at_every_level([&](CpuLevel) {
    for (const std::int64_t cols : {1, 7, 33, 65}) {
      for (const std::int64_t where : {std::int64_t{0}, cols / 2, cols - 1}) {
        auto x = Random(2).floats(3 * cols, -1, 1);
        x[at(where)] = 5.0f;
        x[at(cols + where)] = -std::numeric_limits<float>::infinity();
        x[at(2 * cols + where)] = std::nanf("");
        float low[3], high[3];
        row_range(pool, 3, cols, x.data(), cols, low, high);
        EXPECT_EQ(high[0], 5.0f);
        EXPECT_EQ(low[0], *std::min_element(x.begin(), x.begin() + cols));
        EXPECT_EQ(low[1], -std::numeric_limits<float>::infinity());
        EXPECT_TRUE(std::isnan(low[2]) && std::isnan(high[2]));
      }
    }
  });
}

}  // namespace
}  // namespace nibble::kernels
