// SPDX-License-Identifier: Apache-2.0
// The inverse of a symmetric positive definite matrix by halves, in place. With a = [A B; B^T D], P = A^-1
// and S = D - B^T P B:
//   a^-1 = [P + P B S^-1 B^T P, -P B S^-1; ., S^-1]
// The place of B^T holds -B^T P on the way, so nothing is allocated.
#include <algorithm>
#include <array>

#include "kernels/factor.h"
#include "kernels/gemm.h"
#include "kernels/gemm/driver.h"

namespace nibble::kernels {
namespace {

// Inverted in fp64 by one thread. Products of smaller halves would not run at their rate.
constexpr std::int64_t kLeaf = 96;

FactorResult invert_leaf(ThreadPool& pool, std::int64_t n, float* a, std::int64_t lda) {
  std::array<double, kLeaf * kLeaf> lower, inverse{};
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = i; j < n; ++j) lower[static_cast<std::size_t>(j * n + i)] = a[i * lda + j];
    inverse[static_cast<std::size_t>(i * n + i)] = 1;
  }
  const FactorResult result = cholesky(pool, n, lower.data());
  if (!result.ok()) return result;
  solve_factored(pool, n, lower.data(), n, inverse.data());
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = i; j < n; ++j) {
      a[i * lda + j] = static_cast<float>(inverse[static_cast<std::size_t>(i * n + j)]);
      a[j * lda + i] = a[i * lda + j];
    }
  }
  return result;
}

void transpose(ThreadPool& pool, std::int64_t rows, std::int64_t cols, const float* from, float* to,
               std::int64_t ld) {
  constexpr std::int64_t kBlock = 64;
  pool.parallel_for(cols, kBlock, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t top = 0; top < rows; top += kBlock) {
      for (std::int64_t c = begin; c < end; ++c) {
        for (std::int64_t r = top; r < std::min(top + kBlock, rows); ++r) to[c * ld + r] = from[r * ld + c];
      }
    }
  });
}

}  // namespace

FactorResult invert_damped(ThreadPool& pool, std::int64_t n, float* a, std::int64_t lda) {
  if (n <= kLeaf) return invert_leaf(pool, n, a, lda);
  const std::int64_t leaves = (n + kLeaf - 1) / kLeaf, n1 = leaves / 2 * kLeaf, n2 = n - n1;
  float* const b = a + n1;
  float* const c = a + n1 * lda;
  float* const d = c + n1;
  FactorResult result = invert_damped(pool, n1, a, lda);
  if (!result.ok()) return result;
  using gemm::Operand;
  // c = -B^T P, D += c B
  gemm::multiply(pool, n2, n1, n1, {b, lda, true}, Operand{a, lda, true}, {c, lda, -1.0f});
  gemm::multiply(pool, n2, n2, n1, {c, lda, false}, Operand{b, lda, true}, {d, lda, 1.0f, true, true});
  result = invert_damped(pool, n2, d, lda);
  if (!result.ok()) return {n1 + result.pivot, result.value};
  // B = c^T S^-1, P += B c
  gemm::multiply(pool, n1, n2, n2, {c, lda, true}, Operand{d, lda, true}, {b, lda});
  gemm::multiply(pool, n1, n1, n2, {b, lda, false}, Operand{c, lda, true}, {a, lda, 1.0f, true, true});
  mirror_upper(pool, n1, a, lda);
  transpose(pool, n1, n2, b, c, lda);
  return result;
}

}  // namespace nibble::kernels
