// SPDX-License-Identifier: Apache-2.0
#include "kernels/factor.h"

#include <cmath>
#include <limits>

#include "kernels/levels.h"

namespace nibble::kernels {
namespace {

using testing::at_every_level;
using testing::Random;

using Doubles = std::vector<double>;

std::size_t at(std::int64_t n, std::int64_t i, std::int64_t j) {
  return static_cast<std::size_t>(i * n + j);
}

// X^T X / rows with correlated columns, plus damping.
Doubles make_hessian(std::int64_t n, std::int64_t rows, double damping) {
  Random random(static_cast<std::uint64_t>(n * 131 + rows));
  Doubles x(static_cast<std::size_t>(rows * n)), h(static_cast<std::size_t>(n * n));
  for (std::int64_t r = 0; r < rows; ++r) {
    double carry = 0;
    for (std::int64_t j = 0; j < n; ++j) {
      carry = 0.8 * carry + static_cast<double>(random.uniform());
      x[at(n, r, j)] = carry;
    }
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < n; ++j)
        h[at(n, i, j)] += x[at(n, r, i)] * x[at(n, r, j)] / static_cast<double>(rows);
    }
  }
  for (std::int64_t i = 0; i < n; ++i) h[at(n, i, i)] += damping;
  return h;
}

double largest_deviation_from_identity(std::int64_t n, const Doubles& u, const Doubles& h) {
  // max |U^T U H - I|
  Doubles uh(static_cast<std::size_t>(n * n));
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t k = i; k < n; ++k) {
      for (std::int64_t j = 0; j < n; ++j) uh[at(n, i, j)] += u[at(n, i, k)] * h[at(n, k, j)];
    }
  }
  double worst = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = i == j ? -1.0 : 0.0;
      for (std::int64_t k = 0; k <= i; ++k) sum += u[at(n, k, i)] * uh[at(n, k, j)];
      worst = std::max(worst, std::abs(sum));
    }
  }
  return worst;
}

TEST(InverseFactorTest, GivesAnUpperFactorOfTheInverse) {
  ThreadPool pool(2);
  at_every_level([&](CpuLevel) {
    for (const std::int64_t n : {1, 7, 33, 65, 130, 260}) {
      const Doubles h = make_hessian(n, 2 * n, 0.01);
      Doubles u = h;
      ASSERT_TRUE(inverse_factor(pool, n, u.data()).ok());
      for (std::int64_t i = 0; i < n; ++i) {
        EXPECT_GT(u[at(n, i, i)], 0.0);
        for (std::int64_t j = 0; j < i; ++j) ASSERT_EQ(u[at(n, i, j)], 0.0);
      }
      EXPECT_LT(largest_deviation_from_identity(n, u, h), 1e-9) << n;
    }
  });
}

TEST(InverseFactorTest, TakesFp32WithDampingInPlaceOrNot) {
  ThreadPool pool(2);
  const std::int64_t n = 65, ld = 70;
  const Doubles h = make_hessian(n, 2 * n, 0.0);
  std::vector<float> single(static_cast<std::size_t>(n * ld), 0.5f);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) single[at(ld, i, j)] = static_cast<float>(h[at(n, i, j)]);
  }
  std::vector<float> u(static_cast<std::size_t>(n * n));
  ASSERT_TRUE(inverse_factor(pool, n, single.data(), ld, 0.05, u.data(), n).ok());
  Doubles damped(static_cast<std::size_t>(n * n));
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) damped[at(n, i, j)] = static_cast<double>(single[at(ld, i, j)]);
    damped[at(n, i, i)] += 0.05;
  }
  EXPECT_LT(largest_deviation_from_identity(n, Doubles(u.begin(), u.end()), damped), 1e-3);
  ASSERT_TRUE(inverse_factor(pool, n, single.data(), ld, 0.05, single.data(), ld).ok());
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) ASSERT_EQ(single[at(ld, i, j)], u[at(n, i, j)]);
    ASSERT_EQ(single[at(ld, i, n)], 0.5f) << "wrote beyond the row";
  }
}

TEST(InverseFactorTest, NamesThePivotThatFails) {
  ThreadPool pool(2);
  const std::int64_t n = 150;
  for (const std::int64_t dead : {0, 40, 100, 149}) {
    Doubles h = make_hessian(n, 2 * n, 0.1);
    for (std::int64_t j = 0; j < n; ++j) h[at(n, dead, j)] = h[at(n, j, dead)] = 0.0;
    Doubles u = h;
    EXPECT_EQ(inverse_factor(pool, n, u.data()).pivot, dead);
    Doubles l = h;
    EXPECT_EQ(cholesky(pool, n, l.data()).pivot, dead);
    h[at(n, dead, dead)] = std::numeric_limits<double>::quiet_NaN();
    EXPECT_EQ(inverse_factor(pool, n, h.data()).pivot, dead);
  }
}

// A well damped matrix in fp32 with row stride `ld`; NaN below the diagonal and behind the rows.
std::vector<float> upper_of(std::int64_t n, const Doubles& h, std::int64_t ld) {
  std::vector<float> a(static_cast<std::size_t>(n * ld), std::numeric_limits<float>::quiet_NaN());
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = i; j < n; ++j) a[at(ld, i, j)] = static_cast<float>(h[at(n, i, j)]);
  }
  return a;
}

TEST(InvertDampedTest, GivesBothTrianglesOfTheInverse) {
  ThreadPool one(1), two(2);
  at_every_level([&](CpuLevel) {
    for (const std::int64_t n : {1, 7, 96, 97, 192, 300}) {
      const std::int64_t ld = n + 3;
      const Doubles h = make_hessian(n, 2 * n, 0.3);
      std::vector<float> a = upper_of(n, h, ld), again = a;
      ASSERT_TRUE(invert_damped(two, n, a.data(), ld).ok());
      ASSERT_TRUE(invert_damped(one, n, again.data(), ld).ok());
      double worst = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
          ASSERT_EQ(a[at(ld, i, j)], again[at(ld, i, j)]) << "threads";
          ASSERT_EQ(a[at(ld, i, j)], a[at(ld, j, i)]);
          double sum = i == j ? -1.0 : 0.0;
          for (std::int64_t k = 0; k < n; ++k) sum += static_cast<double>(a[at(ld, i, k)]) * h[at(n, k, j)];
          worst = std::max(worst, std::abs(sum));
        }
        ASSERT_TRUE(std::isnan(a[at(ld, i, n)])) << "wrote beyond the row";
      }
      EXPECT_LT(worst, 2e-5) << n;
    }
  });
}

TEST(InvertDampedTest, NamesThePivotThatFails) {
  ThreadPool pool(2);
  const std::int64_t n = 250;
  for (const std::int64_t dead : {0, 95, 96, 180, 249}) {
    Doubles h = make_hessian(n, 2 * n, 0.1);
    for (std::int64_t j = 0; j < n; ++j) h[at(n, dead, j)] = h[at(n, j, dead)] = 0.0;
    std::vector<float> a = upper_of(n, h, n);
    EXPECT_EQ(invert_damped(pool, n, a.data(), n).pivot, dead);
  }
}

TEST(CholeskyTest, MultipliesBackToTheMatrix) {
  ThreadPool pool(2);
  at_every_level([&](CpuLevel) {
    for (const std::int64_t n : {1, 7, 33, 65, 260}) {
      const Doubles h = make_hessian(n, 2 * n, 0.01);
      Doubles l = h;
      ASSERT_TRUE(cholesky(pool, n, l.data()).ok());
      for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
          double sum = 0;
          for (std::int64_t k = 0; k < n; ++k) sum += l[at(n, i, k)] * l[at(n, j, k)];
          ASSERT_NEAR(sum, h[at(n, i, j)], 1e-12);
        }
        for (std::int64_t j = i + 1; j < n; ++j) ASSERT_EQ(l[at(n, i, j)], 0.0);
      }
    }
  });
}

TEST(SolveTest, RowsAreRightHandSides) {
  ThreadPool pool(2);
  at_every_level([&](CpuLevel) {
    for (const std::int64_t n : {1, 33, 65, 200}) {
      for (const std::int64_t rows : {0, 1, 7, 70}) {
        Random random(4);
        Doubles h = make_hessian(n, 2 * n, 0.1), x(static_cast<std::size_t>(rows * n)), b(x.size());
        for (double& v : x) v = static_cast<double>(random.uniform());
        for (std::int64_t r = 0; r < rows; ++r) {
          for (std::int64_t i = 0; i < n; ++i) {
            for (std::int64_t j = 0; j < n; ++j) b[at(n, r, i)] += h[at(n, i, j)] * x[at(n, r, j)];
          }
        }
        ASSERT_TRUE(cholesky(pool, n, h.data()).ok());
        solve_factored(pool, n, h.data(), rows, b.data());
        for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(b[i], x[i], 1e-9);
      }
    }
  });
}

TEST(SolveTest, TriangularInAllFourForms) {
  ThreadPool pool(2);
  const std::int64_t n = 130, rows = 9;
  for (const Triangle triangle : {Triangle::kLower, Triangle::kUpper}) {
    for (const bool transposed : {false, true}) {
      Random random(6);
      Doubles t(static_cast<std::size_t>(n * n)), x(static_cast<std::size_t>(rows * n)), b(x.size());
      for (double& v : t)
        v = static_cast<double>(random.uniform()) * 0.1;  // the other triangle holds rubbish
      for (std::int64_t i = 0; i < n; ++i) t[at(n, i, i)] = 2.0 + static_cast<double>(random.uniform());
      for (double& v : x) v = static_cast<double>(random.uniform());
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t i = 0; i < n; ++i) {
          for (std::int64_t j = 0; j < n; ++j) {
            const std::int64_t row = transposed ? j : i, col = transposed ? i : j;
            const bool inside = triangle == Triangle::kLower ? col <= row : col >= row;
            if (inside) b[at(n, r, i)] += t[at(n, row, col)] * x[at(n, r, j)];
          }
        }
      }
      solve_triangular(pool, n, t.data(), triangle, transposed, rows, b.data());
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(b[i], x[i], 1e-9);
    }
  }
}

TEST(FactorTest, DoesNotDependOnTheNumberOfThreads) {
  ThreadPool one(1), two(2), four(4);
  at_every_level([&](CpuLevel) {
    const std::int64_t n = 300, rows = 90;
    Doubles results[3], solutions[3];
    int i = 0;
    for (ThreadPool* pool : {&one, &two, &four}) {
      results[i] = make_hessian(n, n, 0.1);
      ASSERT_TRUE(inverse_factor(*pool, n, results[i].data()).ok());
      Doubles h = make_hessian(n, n, 0.1);
      solutions[i] = Doubles(results[i].begin(), results[i].begin() + rows * n);
      ASSERT_TRUE(cholesky(*pool, n, h.data()).ok());
      solve_factored(*pool, n, h.data(), rows, solutions[i].data());
      ++i;
    }
    EXPECT_EQ(results[0], results[1]);
    EXPECT_EQ(results[0], results[2]);
    EXPECT_EQ(solutions[0], solutions[1]);
    EXPECT_EQ(solutions[0], solutions[2]);
  });
}

}  // namespace
}  // namespace nibble::kernels
