// SPDX-License-Identifier: Apache-2.0
#include "kernels/rows.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/level_table.h"
#include "kernels/rows/table.h"

namespace nibble::kernels {

namespace rows {
const Kernels& kernels() {
#if defined(__x86_64__)
  static constexpr LevelTable<Kernels> kTables{&kPortable, &kAvx2, &kAvx512, nullptr};
#else
  static constexpr LevelTable<Kernels> kTables{&kPortable, nullptr, nullptr, nullptr};
#endif
  return pick_level(kTables);
}
}  // namespace rows

namespace {

// Runs body(row) for every row; chunks of about 16 thousand elements, so that small work stays on one thread.
template <class Body>
void for_rows(ThreadPool& pool, std::int64_t row_count, std::int64_t cols, Body body) {
  if (cols <= 0) return;
  const std::int64_t grain = std::max<std::int64_t>(1, (std::int64_t{1} << 14) / cols);
  pool.parallel_for(row_count, grain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) body(r);
  });
}

}  // namespace

void rms_norm(ThreadPool& pool, std::int64_t row_count, std::int64_t cols, const float* x, std::int64_t ldx,
              const float* weight, float weight_offset, float epsilon, float* y, std::int64_t ldy) {
  const auto kernel = rows::kernels().rms_norm;
  for_rows(pool, row_count, cols, [&](std::int64_t r) {
    kernel(cols, x + r * ldx, weight, weight_offset, static_cast<double>(epsilon), y + r * ldy);
  });
}

void layer_norm(ThreadPool& pool, std::int64_t row_count, std::int64_t cols, const float* x, std::int64_t ldx,
                const float* weight, const float* bias, float epsilon, float* y, std::int64_t ldy) {
  const auto kernel = rows::kernels().layer_norm;
  for_rows(pool, row_count, cols, [&](std::int64_t r) {
    kernel(cols, x + r * ldx, weight, bias, static_cast<double>(epsilon), y + r * ldy);
  });
}

void activate(ThreadPool& pool, Activation f, std::int64_t row_count, std::int64_t cols, const float* x,
              std::int64_t ldx, float* y, std::int64_t ldy) {
  const auto kernel = rows::kernels().activate[static_cast<int>(f)];
  for_rows(pool, row_count, cols, [&](std::int64_t r) { kernel(cols, x + r * ldx, y + r * ldy); });
}

void activate_gated(ThreadPool& pool, Activation f, std::int64_t row_count, std::int64_t cols,
                    const float* gate, std::int64_t ldgate, const float* up, std::int64_t ldup, float* y,
                    std::int64_t ldy) {
  const auto kernel = rows::kernels().activate_gated[static_cast<int>(f)];
  for_rows(pool, row_count, cols,
           [&](std::int64_t r) { kernel(cols, gate + r * ldgate, up + r * ldup, y + r * ldy); });
}

void soft_cap(ThreadPool& pool, std::int64_t row_count, std::int64_t cols, float cap, float* x,
              std::int64_t ldx) {
  const auto kernel = rows::kernels().soft_cap;
  for_rows(pool, row_count, cols, [&](std::int64_t r) { kernel(cols, cap, x + r * ldx); });
}

void softmax(ThreadPool& pool, std::int64_t row_count, std::int64_t cols, const float* x, std::int64_t ldx,
             float* y, std::int64_t ldy) {
  const auto kernel = rows::kernels().softmax;
  for_rows(pool, row_count, cols, [&](std::int64_t r) { kernel(cols, x + r * ldx, y + r * ldy); });
}

void log_sum_exp(ThreadPool& pool, std::int64_t row_count, std::int64_t cols, const float* x,
                 std::int64_t ldx, double* out) {
  const auto kernel = rows::kernels().sum_exp;
  for_rows(pool, row_count, cols, [&](std::int64_t r) {
    float largest = 0.0f;
    const double sum = kernel(cols, x + r * ldx, &largest);
    out[r] = static_cast<double>(largest) + std::log(sum);
  });
}

void add_scaled(ThreadPool& pool, std::int64_t row_count, std::int64_t cols, float alpha, const float* x,
                std::int64_t ldx, float* y, std::int64_t ldy) {
  const auto kernel = rows::kernels().add_scaled;
  for_rows(pool, row_count, cols, [&](std::int64_t r) { kernel(cols, alpha, x + r * ldx, y + r * ldy); });
}

void add_bias(ThreadPool& pool, std::int64_t row_count, std::int64_t cols, const float* bias, float* y,
              std::int64_t ldy) {
  add_scaled(pool, row_count, cols, 1.0f, bias, 0, y, ldy);
}

void apply_rope(ThreadPool& pool, const Rope& rope, std::int64_t tokens, std::int64_t heads, float* x,
                std::int64_t ldx) {
  CHECK(rope.dims % 2 == 0 && rope.dims <= rope.head_dim, "rotary dimensions are even and inside the head");
  const auto kernel = rows::kernels().rope;
  const std::int64_t pairs = rope.dims / 2;
  const bool halves = rope.layout == RopeLayout::kHalves;
  const std::int64_t step = halves ? 1 : 2, second = halves ? pairs : 1;
  for_rows(pool, tokens, heads * rope.dims, [&](std::int64_t t) {
    const std::int64_t position = rope.positions == nullptr ? t : rope.positions[t];
    const float* cos = rope.cos + position * pairs;
    const float* sin = rope.sin + position * pairs;
    for (std::int64_t h = 0; h < heads; ++h) {
      float* head = x + t * ldx + h * rope.head_dim;
      kernel(pairs, cos, sin, rope.inverse ? -1.0f : 1.0f, head, head + second, step);
    }
  });
}

}  // namespace nibble::kernels
