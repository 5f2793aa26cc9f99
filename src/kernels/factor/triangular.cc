// SPDX-License-Identifier: Apache-2.0
#include "kernels/factor/triangular.h"

#include <algorithm>

namespace nibble::kernels::factor {

Triangular::Triangular(const gemm64::Kernels& kernel, const double* t, std::int64_t ld, std::int64_t n,
                       Triangle triangle, bool transposed)
    : kernel_(kernel),
      t_(t),
      ld_(ld),
      n_(n),
      transposed_(transposed),
      forward_((triangle == Triangle::kLower) != transposed),
      blocks_(static_cast<std::size_t>((n + kBlock - 1) / kBlock * kBlock * kBlock)) {
  for (std::int64_t begin = 0; begin < n; begin += kBlock) {
    const std::int64_t size = std::min(kBlock, n - begin);
    double* block = blocks_.data() + begin * kBlock;
    const auto unknown = [&](std::int64_t i) { return begin + (forward_ ? i : size - 1 - i); };
    for (std::int64_t k = 0; k < size; ++k) {
      for (std::int64_t i = k; i < size; ++i) block[k * size + i] = coefficient(unknown(i), unknown(k));
      block[k * size + k] = 1.0 / block[k * size + k];
    }
  }
}

void Triangular::solve_block(std::int64_t begin, std::int64_t size, std::int64_t rows, double* b,
                             std::int64_t ldb) const {
  alignas(64) double strip[kBlock * gemm64::kStrip];
  const auto column = [&](std::int64_t i) { return begin + (forward_ ? i : size - 1 - i); };
  for (std::int64_t row = 0; row < rows; row += gemm64::kStrip) {
    const std::int64_t count = std::min<std::int64_t>(gemm64::kStrip, rows - row);
    if (count < gemm64::kStrip) std::fill_n(strip, size * gemm64::kStrip, 0.0);
    for (std::int64_t r = 0; r < count; ++r) {
      for (std::int64_t i = 0; i < size; ++i) strip[i * gemm64::kStrip + r] = b[(row + r) * ldb + column(i)];
    }
    kernel_.solve_strip(static_cast<int>(size), blocks_.data() + begin * kBlock, strip);
    for (std::int64_t r = 0; r < count; ++r) {
      for (std::int64_t i = 0; i < size; ++i) b[(row + r) * ldb + column(i)] = strip[i * gemm64::kStrip + r];
    }
  }
}

// Pieces of a quarter of the next larger block size: 32 in 128, 128 in 512, and so on.
void Triangular::solve_range(std::int64_t begin, std::int64_t end, std::int64_t rows, double* b,
                             std::int64_t ldb) const {
  if (end - begin <= kBlock) return solve_block(begin, end - begin, rows, b, ldb);
  std::int64_t piece = kBlock;
  while (piece * 4 < end - begin) piece *= 4;
  const std::int64_t pieces = (end - begin + piece - 1) / piece;
  for (std::int64_t p = 0; p < pieces; ++p) {
    const std::int64_t first = begin + (forward_ ? p : pieces - 1 - p) * piece,
                       last = std::min(first + piece, end);
    const std::int64_t done = forward_ ? begin : last, count = forward_ ? first - begin : end - last;
    const double* block = transposed_ ? t_ + done * ld_ + first : t_ + first * ld_ + done;
    if (count > 0) {
      gemm64::multiply(kernel_, {rows, last - first, count, b + done, ldb, block, ld_, transposed_, b + first,
                                 ldb, -1.0, true});
    }
    solve_range(first, last, rows, b, ldb);
  }
}

}  // namespace nibble::kernels::factor
