// SPDX-License-Identifier: Apache-2.0
#include "kernels/rows.h"

#include <cmath>
#include <limits>

#include "kernels/levels.h"

namespace nibble::kernels {
namespace {

using testing::at_every_level;
using testing::Random;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::int64_t kSizes[] = {1, 7, 16, 33, 65, 300};

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

double exact_activation(Activation f, double x) {
  switch (f) {
    case Activation::kRelu:
      return std::max(x, 0.0);
    case Activation::kRelu2:
      return x > 0 ? x * x : 0.0;
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kGeluErf:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::kQuickGelu:
      return x / (1 + std::exp(-1.702 * x));
    case Activation::kTanh:
      return std::tanh(x);
  }
  return 0;
}

constexpr Activation kAll[] = {Activation::kRelu,     Activation::kRelu2,   Activation::kSilu,
                               Activation::kGeluTanh, Activation::kGeluErf, Activation::kQuickGelu,
                               Activation::kTanh};

TEST(RowsTest, ActivationsMatchDouble) {
  ThreadPool pool(2);
  std::vector<float> x;
  for (float v = -12.0f; v <= 12.0f; v += 0.00237f) x.push_back(v);
  for (const float v : {0.0f, -0.0f, 1e-30f, -1e-30f, 1e-4f, 50.0f, -50.0f, 300.0f, -300.0f}) x.push_back(v);
  const auto n = static_cast<std::int64_t>(x.size());
  at_every_level([&](CpuLevel) {
    for (const Activation f : kAll) {
      std::vector<float> y(x.size());
      activate(pool, f, 1, n, x.data(), n, y.data(), n);
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double exact = exact_activation(f, static_cast<double>(x[i]));
        // Relative to the result near and above 0; the small negative tails of the gelus and silu relative to
        // x.
        const double scale = x[i] < -1 ? 0.3 * std::abs(static_cast<double>(x[i])) : 1.0 * std::abs(exact);
        ASSERT_NEAR(y[i], exact, 6e-7 * scale + 1e-37) << static_cast<int>(f) << " of " << x[i];
      }
    }
  });
}

// Silu of a very negative number is -x e^x: what is left of exp at the far end is seen through the softmax
// sums.
TEST(RowsTest, ExpIsWithinTwoUlp) {
  ThreadPool pool(1);
  at_every_level([&](CpuLevel) {
    double worst = 0;
    for (float v = -87.0f; v <= 0.0f; v += 0.00913f) {
      // The sum of exp over {0, v} minus 1 is exp(v) only roughly; one lane alone gives it through softmax's
      // ratio.
      const float x[2] = {v, 0.0f};
      float y[2];
      softmax(pool, 1, 2, x, 2, y, 2);
      const double exact = std::exp(static_cast<double>(v)) / (1 + std::exp(static_cast<double>(v)));
      worst = std::max(worst, std::abs(static_cast<double>(y[0]) - exact) / exact);
    }
    // exp, rounding of 1 / sum and of the product.
    EXPECT_LT(worst, 3.5 * 6e-8 + 6e-8);
  });
}

TEST(RowsTest, GatedIsActivationTimesUp) {
  ThreadPool pool(2);
  at_every_level([&](CpuLevel) {
    for (const std::int64_t cols : kSizes) {
      const std::int64_t rows = 7, ld = cols + 3;
      const auto gate = Random(1).floats(rows * ld + 1, -4, 4), up = Random(2).floats(rows * ld + 1);
      for (const Activation f : kAll) {
        std::vector<float> y(gate.size(), 9.0f), expected = gate;
        activate_gated(pool, f, rows, cols, gate.data() + 1, ld, up.data() + 1, ld, y.data() + 1, ld);
        activate(pool, f, rows, cols, expected.data() + 1, ld, expected.data() + 1, ld);
        for (std::int64_t r = 0; r < rows; ++r) {
          for (std::int64_t c = 0; c < ld; ++c) {
            const std::size_t i = at(1 + r * ld + c);
            if (i >= y.size()) continue;
            ASSERT_EQ(y[i], c < cols ? expected[i] * up[i] : 9.0f);
          }
        }
      }
    }
  });
}

TEST(RowsTest, RmsNormMatchesDouble) {
  ThreadPool pool(2);
  at_every_level([&](CpuLevel) {
    for (const std::int64_t cols : kSizes) {
      for (const float offset : {0.0f, 1.0f}) {
        const std::int64_t rows = 5, ld = cols + 2;
        const auto x = Random(3).floats(rows * ld, -30, 30), w = Random(4).floats(cols + 1);
        std::vector<float> y(x.size()), plain(x.size());
        rms_norm(pool, rows, cols, x.data(), ld, w.data() + 1, offset, 1e-5f, y.data(), ld);
        rms_norm(pool, rows, cols, x.data(), ld, nullptr, offset, 1e-5f, plain.data(), ld);
        for (std::int64_t r = 0; r < rows; ++r) {
          double sum = 0;
          for (std::int64_t c = 0; c < cols; ++c) sum += std::pow(static_cast<double>(x[at(r * ld + c)]), 2);
          const double inverse = 1 / std::sqrt(sum / static_cast<double>(cols) + 1e-5);
          for (std::int64_t c = 0; c < cols; ++c) {
            const double exact = static_cast<double>(x[at(r * ld + c)]) * inverse;
            const double scale = static_cast<double>(offset) + static_cast<double>(w[at(c + 1)]);
            ASSERT_NEAR(plain[at(r * ld + c)], exact, 1.3e-7 * std::abs(exact));
            ASSERT_NEAR(y[at(r * ld + c)], exact * scale, 2.5e-7 * std::abs(exact) * (1 + std::abs(scale)));
          }
        }
      }
    }
  });
}

TEST(RowsTest, LayerNormKeepsItsDigitsBesideALargeMean) {
  ThreadPool pool(2);
  at_every_level([&](CpuLevel) {
    for (const std::int64_t cols : kSizes) {
      for (const float mean : {0.0f, 1000.0f}) {
        const std::int64_t rows = 5, ld = cols + 2;
        const auto x = Random(3).floats(rows * ld, mean - 1, mean + 1);
        const auto w = Random(4).floats(cols), b = Random(5).floats(cols);
        std::vector<float> y(x.size());
        layer_norm(pool, rows, cols, x.data(), ld, w.data(), b.data(), 1e-5f, y.data(), ld);
        for (std::int64_t r = 0; r < rows; ++r) {
          double sum = 0, squares = 0;
          const auto value = [&](std::int64_t c) { return static_cast<double>(x[at(r * ld + c)]); };
          for (std::int64_t c = 0; c < cols; ++c) sum += value(c);
          const double m = sum / static_cast<double>(cols);
          for (std::int64_t c = 0; c < cols; ++c) squares += (value(c) - m) * (value(c) - m);
          const double inverse =
              1 / std::sqrt(squares / static_cast<double>(cols) + static_cast<double>(1e-5f));
          for (std::int64_t c = 0; c < cols; ++c) {
            const double exact =
                (value(c) - m) * inverse * static_cast<double>(w[at(c)]) + static_cast<double>(b[at(c)]);
            ASSERT_NEAR(y[at(r * ld + c)], exact, 5e-7) << cols;
          }
        }
      }
    }
  });
}

TEST(RowsTest, SoftmaxAndLogSumExpMatchDouble) {
  ThreadPool pool(2);
  at_every_level([&](CpuLevel) {
    for (const std::int64_t cols : {1, 7, 16, 33, 65, 5000}) {
      const std::int64_t rows = 4, ld = cols + 1;
      auto x = Random(3).floats(rows * ld, -20, 20);
      for (std::int64_t c = 1; c < cols; c += 3) x[at(c)] = -kInfinity;  // masked places
      for (std::int64_t c = 0; c < cols; ++c) x[at(ld + c)] += 1e4f;     // a large shift
      std::vector<float> y(x.size());
      std::vector<double> lse(at(rows));
      softmax(pool, rows, cols, x.data(), ld, y.data(), ld);
      log_sum_exp(pool, rows, cols, x.data(), ld, lse.data());
      for (std::int64_t r = 0; r < rows; ++r) {
        double largest = -HUGE_VAL, sum = 0;
        for (std::int64_t c = 0; c < cols; ++c)
          largest = std::max(largest, static_cast<double>(x[at(r * ld + c)]));
        for (std::int64_t c = 0; c < cols; ++c)
          sum += std::exp(static_cast<double>(x[at(r * ld + c)]) - largest);
        ASSERT_NEAR(lse[at(r)], largest + std::log(sum), 1e-6);
        for (std::int64_t c = 0; c < cols; ++c) {
          const double distance = largest - static_cast<double>(x[at(r * ld + c)]);
          const double exact = std::exp(-distance) / sum;
          // The fp32 difference x - largest is off by half an ulp of itself.
          const double bound = exact == 0 ? 0 : exact * (3e-7 + 6e-8 * distance);
          ASSERT_NEAR(y[at(r * ld + c)], exact, bound + 1e-37);
        }
      }
    }
  });
}

TEST(RowsTest, SoftmaxOfFullyMaskedRowIsZeroAndNanStays) {
  ThreadPool pool(1);
  at_every_level([&](CpuLevel) {
    float x[3] = {-kInfinity, -kInfinity, -kInfinity};
    softmax(pool, 1, 3, x, 3, x, 3);
    EXPECT_EQ(x[0] + x[1] + x[2], 0.0f);
    float nan[20] = {};
    nan[18] = std::nanf("");
    double lse = 0;
    log_sum_exp(pool, 1, 20, nan, 20, &lse);
    EXPECT_TRUE(std::isnan(lse));
    float y[20];
    for (const Activation f :
         {Activation::kSilu, Activation::kGeluErf, Activation::kGeluTanh, Activation::kTanh}) {
      activate(pool, f, 1, 20, nan, 20, y, 20);
      EXPECT_TRUE(std::isnan(y[18])) << static_cast<int>(f);
    }
  });
}

TEST(RowsTest, SoftCapMatchesTanh) {
  ThreadPool pool(2);
  at_every_level([&](CpuLevel) {
    auto x = Random(3).floats(333, -200, 200);
    const auto before = x;
    soft_cap(pool, 9, 37, 30.0f, x.data(), 37);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double exact = 30 * std::tanh(static_cast<double>(before[i]) / 30);
      ASSERT_NEAR(x[i], exact, 6e-7 * std::abs(exact));
    }
  });
}

TEST(RowsTest, RopeRotatesPairsAndBack) {
  ThreadPool pool(2);
  at_every_level([&](CpuLevel) {
    for (const auto layout : {RopeLayout::kHalves, RopeLayout::kInterleaved}) {
      for (const std::int64_t dims : {2, 24, 64}) {
        const std::int64_t tokens = 5, heads = 3, head_dim = dims + 4, pairs = dims / 2,
                           ld = heads * head_dim + 1;
        std::vector<float> cos, sin;
        for (std::int64_t p = 0; p < 16; ++p) {
          for (std::int64_t i = 0; i < pairs; ++i) {
            const double angle =
                static_cast<double>(p) / std::pow(100.0, static_cast<double>(i) / static_cast<double>(pairs));
            cos.push_back(static_cast<float>(std::cos(angle)));
            sin.push_back(static_cast<float>(std::sin(angle)));
          }
        }
        const std::int32_t positions[] = {3, 0, 15, 7, 7};
        const auto before = Random(8).floats(tokens * ld);
        auto x = before;
        Rope rope{layout, head_dim, dims, cos.data(), sin.data(), positions, false};
        apply_rope(pool, rope, tokens, heads, x.data(), ld);
        for (std::int64_t t = 0; t < tokens; ++t) {
          for (std::int64_t h = 0; h < heads; ++h) {
            const std::int64_t head = t * ld + h * head_dim;
            for (std::int64_t i = 0; i < pairs; ++i) {
              const bool halves = layout == RopeLayout::kHalves;
              const std::size_t a = at(head + (halves ? i : 2 * i)),
                                b = at(head + (halves ? i + pairs : 2 * i + 1));
              const float c = cos[at(positions[t] * pairs + i)], s = sin[at(positions[t] * pairs + i)];
              const float ac = before[a] * c, bs = before[b] * s, bc = before[b] * c, as = before[a] * s;
              ASSERT_EQ(x[a], ac - bs);
              ASSERT_EQ(x[b], bc + as);
            }
            for (std::int64_t i = dims; i < head_dim; ++i) ASSERT_EQ(x[at(head + i)], before[at(head + i)]);
          }
        }
        rope.inverse = true;
        apply_rope(pool, rope, tokens, heads, x.data(), ld);
        for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], before[i], 3e-7f);
      }
    }
  });
}

TEST(RowsTest, AddsScaledRowsAndBias) {
  ThreadPool pool(2);
  at_every_level([&](CpuLevel) {
    for (const std::int64_t cols : kSizes) {
      const auto x = Random(1).floats(3 * cols), start = Random(2).floats(3 * cols);
      auto y = start, z = start;
      add_scaled(pool, 3, cols, 0.3f, x.data(), cols, y.data(), cols);
      add_bias(pool, 3, cols, x.data(), z.data(), cols);
      for (std::int64_t i = 0; i < 3 * cols; ++i) {
        const float product = 0.3f * x[at(i)];
        ASSERT_EQ(y[at(i)], start[at(i)] + product);
        ASSERT_EQ(z[at(i)], start[at(i)] + x[at(i % cols)]);
      }
    }
  });
}

// Equal bits at the fused levels, for any thread count; empty inputs are fine.
TEST(RowsTest, FusedLevelsAndThreadCountsAgree) {
  ThreadPool one(1), four(4);
  const std::int64_t rows = 67, cols = 999;
  const auto x = Random(1).floats(rows * cols, -5, 5);
  std::vector<std::vector<float>> results;
  at_every_level([&](CpuLevel level) {
    std::vector<float> previous;
    for (ThreadPool* pool : {&one, &four}) {
      std::vector<float> y(x.size());
      rms_norm(*pool, rows, cols, x.data(), cols, x.data(), 1.0f, 1e-6f, y.data(), cols);
      layer_norm(*pool, rows, cols, y.data(), cols, x.data(), x.data(), 1e-6f, y.data(), cols);
      for (const Activation f : kAll) activate(*pool, f, rows, cols, y.data(), cols, y.data(), cols);
      softmax(*pool, rows, cols, y.data(), cols, y.data(), cols);
      softmax(*pool, 0, cols, nullptr, cols, nullptr, cols);
      softmax(*pool, rows, 0, nullptr, 0, nullptr, 0);
      EXPECT_TRUE(previous.empty() || y == previous);
      previous = y;
    }
    if (level != CpuLevel::kPortable) results.push_back(previous);
  });
  for (const auto& result : results) EXPECT_EQ(result, results.front());
}

}  // namespace
}  // namespace nibble::kernels
