// SPDX-License-Identifier: Apache-2.0
// Blocked substitution with one triangular matrix for many right-hand sides, one thread per call.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/factor.h"
#include "kernels/gemm64/tile.h"

namespace nibble::kernels::factor {

// The smallest blocks, solved by substitution; everything else is products.
inline constexpr std::int64_t kBlock = 32;

class Triangular {
 public:
  // t [n, n] with row stride ld. `transposed` solves with its transpose.
  Triangular(const gemm64::Kernels& kernel, const double* t, std::int64_t ld, std::int64_t n,
             Triangle triangle, bool transposed);

  // Replaces every row x of b by the solution y of t y = x. At most gemm64::kMostRows rows.
  void solve(std::int64_t rows, double* b, std::int64_t ldb) const { solve_range(0, n_, rows, b, ldb); }

 private:
  void solve_range(std::int64_t begin, std::int64_t end, std::int64_t rows, double* b,
                   std::int64_t ldb) const;
  void solve_block(std::int64_t begin, std::int64_t size, std::int64_t rows, double* b,
                   std::int64_t ldb) const;
  // Coefficient of unknown `from` in the equation of unknown `to`.
  double coefficient(std::int64_t to, std::int64_t from) const {
    return transposed_ ? t_[from * ld_ + to] : t_[to * ld_ + from];
  }

  const gemm64::Kernels& kernel_;
  const double* t_;
  std::int64_t ld_, n_;
  bool transposed_, forward_;
  std::vector<double> blocks_;  // of kBlock^2, in solve_strip's form and in the order of substitution
};

}  // namespace nibble::kernels::factor
