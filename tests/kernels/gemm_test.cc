// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm.h"

#include <cmath>
#include <tuple>

#include "kernels/levels.h"

namespace nibble::kernels {
namespace {

using testing::at_every_level;
using testing::Random;

enum class Kind { kNt, kNn, kTn };

struct Case {
  std::int64_t m, n, k;
};

// Leading dimensions with a gap and data off the alignment.
struct Problem {
  Kind kind;
  Case shape;
  std::int64_t lda, ldb, ldc;
  std::vector<float> a, b, c;

  Problem(Kind kind_in, Case s, std::uint64_t seed) : kind(kind_in), shape(s) {
    lda = (kind == Kind::kTn ? s.m : s.k) + 3;
    ldb = (kind == Kind::kNt ? s.k : s.n) + 5;
    ldc = s.n + 2;
    Random random(seed);
    a = random.floats((kind == Kind::kTn ? s.k : s.m) * lda + 1);
    b = random.floats((kind == Kind::kNt ? s.n : s.k) * ldb + 1);
    c = random.floats(s.m * ldc + 1);
  }
  double at_a(std::int64_t i, std::int64_t k) const {
    return a[static_cast<std::size_t>(1 + (kind == Kind::kTn ? k * lda + i : i * lda + k))];
  }
  double at_b(std::int64_t j, std::int64_t k) const {
    return b[static_cast<std::size_t>(1 + (kind == Kind::kNt ? j * ldb + k : k * ldb + j))];
  }
  std::vector<float> run(ThreadPool& pool, bool accumulate, std::int64_t row0, std::int64_t row1) const {
    std::vector<float> out = c;
    const auto product = kind == Kind::kNt ? gemm_nt : kind == Kind::kNn ? gemm_nn : gemm_tn;
    const float* first = a.data() + 1 + (kind == Kind::kTn ? row0 : row0 * lda);
    product(pool, row1 - row0, shape.n, shape.k, first, lda, b.data() + 1, ldb, out.data() + 1 + row0 * ldc,
            ldc, accumulate);
    return out;
  }
};

const Case kCases[] = {{1, 1, 1},    {7, 33, 65},   {33, 7, 1},    {65, 65, 7},   {1, 65, 300},
                       {2, 130, 33}, {14, 32, 256}, {15, 31, 257}, {169, 50, 40}, {400, 70, 530}};

TEST(GemmTest, MatchesDoubleWithinTheBoundOfOneChain) {
  ThreadPool pool(2);
  at_every_level([&](CpuLevel) {
    for (const Kind kind : {Kind::kNt, Kind::kNn, Kind::kTn}) {
      for (const Case& s : kCases) {
        for (const bool accumulate : {false, true}) {
          const Problem p(kind, s, 5);
          const std::vector<float> out = p.run(pool, accumulate, 0, s.m);
          for (std::int64_t i = 0; i < s.m; ++i) {
            for (std::int64_t j = 0; j < s.n; ++j) {
              const std::size_t at = static_cast<std::size_t>(1 + i * p.ldc + j);
              double sum = accumulate ? static_cast<double>(p.c[at]) : 0.0, size = std::abs(sum);
              for (std::int64_t k = 0; k < s.k; ++k) {
                sum += p.at_a(i, k) * p.at_b(j, k);
                size += std::abs(p.at_a(i, k) * p.at_b(j, k));
              }
              // 2 roundings per term at the portable level; in practice sqrt(k) of them add up.
              ASSERT_NEAR(out[at], sum, size * 1.2e-7 * (2.0 + std::sqrt(static_cast<double>(s.k))))
                  << s.m << "x" << s.n << "x" << s.k << " at " << i << "," << j;
            }
            for (std::int64_t j = s.n; j < p.ldc; ++j) {
              const std::size_t at = static_cast<std::size_t>(1 + i * p.ldc + j);
              ASSERT_EQ(out[at], p.c[at]) << "wrote beyond the row";
            }
          }
        }
      }
    }
  });
}

TEST(GemmTest, EqualsItselfForAnyThreadCountAndRowSplit) {
  ThreadPool one(1), two(2), four(4);
  at_every_level([&](CpuLevel) {
    for (const Kind kind : {Kind::kNt, Kind::kNn, Kind::kTn}) {
      const Case s{203, 83, 515};
      const Problem p(kind, s, 9);
      const std::vector<float> whole = p.run(one, true, 0, s.m);
      EXPECT_EQ(whole, p.run(two, true, 0, s.m));
      EXPECT_EQ(whole, p.run(four, true, 0, s.m));
      for (std::int64_t row = 0; row < s.m; row += (row % 3 == 0 ? 1 : 19)) {
        const std::vector<float> part =
            p.run(two, true, row, std::min<std::int64_t>(row + 1 + row % 21, s.m));
        for (std::int64_t j = 0; j < s.n; ++j) {
          const auto at = static_cast<std::size_t>(1 + row * p.ldc + j);
          ASSERT_EQ(part[at], whole[at]);
        }
      }
    }
  });
}

TEST(GemmTest, FusedLevelsAgreeBitForBit) {
  if (best_level() < CpuLevel::kAvx512) GTEST_SKIP() << "one fused level only";
  ThreadPool pool(2);
  const Problem p(Kind::kNt, {37, 45, 600}, 3);
  std::vector<std::vector<float>> results;
  at_every_level([&](CpuLevel level) {
    if (level != CpuLevel::kPortable) results.push_back(p.run(pool, false, 0, 37));
  });
  for (const auto& result : results) EXPECT_EQ(result, results.front());
}

TEST(GemmTest, EmptyProductsAreZeroOrLeaveTheSum) {
  ThreadPool pool(2);
  at_every_level([&](CpuLevel) {
    std::vector<float> c{1, 2, 3, 4, 5, 6};
    gemm_nt(pool, 2, 2, 0, nullptr, 1, nullptr, 1, c.data(), 3, true);
    EXPECT_EQ(c, (std::vector<float>{1, 2, 3, 4, 5, 6}));
    gemm_nt(pool, 2, 2, 0, nullptr, 1, nullptr, 1, c.data(), 3, false);
    EXPECT_EQ(c, (std::vector<float>{0, 0, 3, 0, 0, 6}));
    gemm_nn(pool, 0, 2, 5, nullptr, 5, nullptr, 2, c.data(), 3);
    EXPECT_EQ(c, (std::vector<float>{0, 0, 3, 0, 0, 6}));
  });
}

TEST(SyrkTest, IsSymmetricAndEqualsGemm) {
  ThreadPool one(1), four(4);
  at_every_level([&](CpuLevel) {
    for (const std::int64_t n : {1, 7, 33, 65, 210, 430}) {
      for (const std::int64_t k : {1, 33, 300}) {
        const std::int64_t ld = n + 1;
        const std::vector<float> x = Random(7).floats(k * ld);
        std::vector<float> h(static_cast<std::size_t>(n * ld), 0.25f), g = h, other = h;
        syrk_tn(four, n, k, x.data(), ld, 1.0f, h.data(), ld);
        syrk_tn(one, n, k, x.data(), ld, 1.0f, other.data(), ld);
        gemm_tn(four, n, n, k, x.data(), ld, x.data(), ld, g.data(), ld, true);
        EXPECT_EQ(h, g);
        EXPECT_EQ(h, other);
      }
    }
  });
}

TEST(SyrkTest, ScalesWhatItAdds) {
  ThreadPool pool(2);
  at_every_level([&](CpuLevel) {
    const std::int64_t n = 37, k = 19;
    const std::vector<float> x = Random(8).floats(k * n);
    std::vector<float> plain(static_cast<std::size_t>(n * n)), half = plain;
    syrk_tn(pool, n, k, x.data(), n, 1.0f, plain.data(), n);
    syrk_tn(pool, n, k, x.data(), n, 0.5f, half.data(), n);
    for (std::size_t i = 0; i < plain.size(); ++i) ASSERT_EQ(half[i], 0.5f * plain[i]);
  });
}

}  // namespace
}  // namespace nibble::kernels
