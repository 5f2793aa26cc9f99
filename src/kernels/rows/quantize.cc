// SPDX-License-Identifier: Apache-2.0
#include "kernels/quantize.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/rows/table.h"

namespace nibble::kernels {
namespace {

std::int64_t grain_of(std::int64_t cols) {
  return std::max<std::int64_t>(1, (std::int64_t{1} << 14) / std::max<std::int64_t>(cols, 1));
}

}  // namespace

void row_range(ThreadPool& pool, std::int64_t row_count, std::int64_t cols, const float* x, std::int64_t ldx,
               float* lowest, float* highest) {
  CHECK(cols > 0, "an empty row has no range");
  const auto kernel = rows::kernels().range;
  pool.parallel_for(row_count, grain_of(cols), [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) kernel(cols, x + r * ldx, lowest + r, highest + r);
  });
}

void quantize_rows(ThreadPool& pool, std::int64_t row_count, std::int64_t cols, const float* x,
                   std::int64_t ldx, const float* scales, const std::int32_t* zeros, int low, int high,
                   std::int8_t* codes, std::int64_t ld) {
  CHECK(-128 <= low && low <= high && high <= 127, "codes are int8");
  const auto kernel = rows::kernels().quantize;
  pool.parallel_for(row_count, grain_of(cols), [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      kernel(cols, x + r * ldx, scales[r], zeros == nullptr ? 0.0f : static_cast<float>(zeros[r]),
             static_cast<float>(low), static_cast<float>(high),
             reinterpret_cast<std::uint8_t*>(codes + r * ld));
    }
  });
}

}  // namespace nibble::kernels
