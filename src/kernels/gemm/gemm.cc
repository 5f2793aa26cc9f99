// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm.h"

#include <algorithm>

#include "kernels/gemm/driver.h"

namespace nibble::kernels {
namespace {

using gemm::kStrip;
using gemm::Operand;

// Strips packed from a plain matrix when they are needed.
class PlainStrips final : public gemm::StripSource {
 public:
  PlainStrips(const Operand& b, std::int64_t n) : kernel_(gemm::kernels()), b_(b), n_(n) {}

  void fill(std::int64_t strip, std::int64_t first, std::int64_t depth, float* out) const override {
    const std::int64_t column = strip * kStrip;
    const auto count = static_cast<int>(std::min<std::int64_t>(kStrip, n_ - column));
    if (b_.k_major) {
      kernel_.pack_columns(b_.data + first * b_.ld + column, b_.ld, count, depth, out, kStrip);
    } else {
      kernel_.pack_rows(b_.data + column * b_.ld + first, b_.ld, count, depth, out, kStrip);
    }
  }

  bool k_major() const override { return b_.k_major; }

 private:
  const gemm::Kernels& kernel_;
  Operand b_;
  std::int64_t n_;
};

}  // namespace

void gemm::multiply(ThreadPool& pool, std::int64_t m, std::int64_t n, std::int64_t k, const Operand& a,
                    const Operand& b, const Output& out) {
  multiply(pool, m, n, k, a, PlainStrips(b, n), out);
}

void gemm_nt(ThreadPool& pool, std::int64_t m, std::int64_t n, std::int64_t k, const float* a,
             std::int64_t lda, const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
             bool accumulate) {
  gemm::multiply(pool, m, n, k, {a, lda, false}, Operand{b, ldb, false}, {c, ldc, 1.0f, accumulate});
}

void gemm_nn(ThreadPool& pool, std::int64_t m, std::int64_t n, std::int64_t k, const float* a,
             std::int64_t lda, const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
             bool accumulate) {
  gemm::multiply(pool, m, n, k, {a, lda, false}, Operand{b, ldb, true}, {c, ldc, 1.0f, accumulate});
}

void gemm_tn(ThreadPool& pool, std::int64_t m, std::int64_t n, std::int64_t k, const float* a,
             std::int64_t lda, const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
             bool accumulate) {
  gemm::multiply(pool, m, n, k, {a, lda, true}, Operand{b, ldb, true}, {c, ldc, 1.0f, accumulate});
}

void syrk_tn_upper(ThreadPool& pool, std::int64_t n, std::int64_t k, const float* x, std::int64_t ldx,
                   float scale, float* h, std::int64_t ldh, bool accumulate) {
  const Operand operand{x, ldx, true};
  gemm::multiply(pool, n, n, k, operand, operand, {h, ldh, scale, accumulate, true});
}

// In square blocks that fit the cache.
void mirror_upper(ThreadPool& pool, std::int64_t n, float* h, std::int64_t ldh) {
  constexpr std::int64_t kBlock = 64;
  pool.parallel_for(n, kBlock, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t left = 0; left < end; left += kBlock) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t right = std::min(left + kBlock, i);
        for (std::int64_t j = left; j < right; ++j) h[i * ldh + j] = h[j * ldh + i];
      }
    }
  });
}

void syrk_tn(ThreadPool& pool, std::int64_t n, std::int64_t k, const float* x, std::int64_t ldx, float scale,
             float* h, std::int64_t ldh) {
  syrk_tn_upper(pool, n, k, x, ldx, scale, h, ldh, true);
  mirror_upper(pool, n, h, ldh);
}

}  // namespace nibble::kernels
