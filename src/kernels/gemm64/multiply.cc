// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include "base/check.h"
#include "kernels/gemm64/tile.h"
#include "kernels/level_table.h"

namespace nibble::kernels::gemm64 {

const Kernels& kernels() {
#if defined(__x86_64__)
  static constexpr LevelTable<Kernels> kTables{&kPortable, &kAvx2, &kAvx512, nullptr};
#else
  static constexpr LevelTable<Kernels> kTables{&kPortable, nullptr, nullptr, nullptr};
#endif
  return pick_level(kTables);
}

namespace {

struct Free {
  void operator()(double* p) const { std::free(p); }
};

std::unique_ptr<double[], Free> allocate(std::int64_t count) {
  void* memory = std::aligned_alloc(64, (static_cast<std::size_t>(count) * sizeof(double) + 127) / 64 * 64);
  if (memory == nullptr) throw std::bad_alloc();
  return std::unique_ptr<double[], Free>(static_cast<double*>(memory));
}

}  // namespace

void multiply(const Kernels& kernel, const Product& p) {
  CHECK(p.m <= kMostRows, "a product of gemm64 has few rows");
  if (p.m <= 0 || p.n <= 0) return;
  const std::int64_t depth_of_all = std::min<std::int64_t>(p.k, kDepth);
  const auto a = allocate(p.m * depth_of_all), b = allocate(kernel.strips * kStrip * depth_of_all);
  const std::int64_t tiles = (p.m + kernel.mr - 1) / kernel.mr, step = kernel.strips * kStrip;
  const auto begin = [&](std::int64_t tile) { return p.m * tile / tiles; };
  for (std::int64_t first = 0; first < std::max<std::int64_t>(p.k, 1); first += kDepth) {
    const std::int64_t depth = std::min<std::int64_t>(kDepth, p.k - first);
    for (std::int64_t t = 0; t < tiles; ++t) {
      const std::int64_t row = begin(t);
      const auto rows = static_cast<int>(begin(t + 1) - row);
      kernel.pack_rows(p.a + row * p.lda + first, p.lda, rows, depth, a.get() + row * depth, rows);
    }
    for (std::int64_t column = 0; column < p.n; column += step) {
      const auto cols = static_cast<int>(std::min(step, p.n - column));
      const int strips = (cols + kStrip - 1) / kStrip;
      for (int s = 0; s < strips; ++s) {
        const std::int64_t left = column + s * kStrip;
        const int count = std::min(kStrip, cols - s * kStrip);
        double* to = b.get() + s * kStrip * depth;
        if (p.b_k_major) {
          kernel.pack_columns(p.b + first * p.ldb + left, p.ldb, count, depth, to, kStrip);
        } else {
          kernel.pack_rows(p.b + left * p.ldb + first, p.ldb, count, depth, to, kStrip);
        }
      }
      for (std::int64_t t = 0; t < tiles; ++t) {
        const std::int64_t row = begin(t);
        kernel.tile[begin(t + 1) - row - 1][strips - 1](depth, a.get() + row * depth, b.get(), kStrip * depth,
                                                        p.c + row * p.ldc + column, p.ldc, cols, p.alpha,
                                                        p.accumulate || first > 0);
      }
    }
  }
}

}  // namespace nibble::kernels::gemm64
