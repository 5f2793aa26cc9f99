// SPDX-License-Identifier: Apache-2.0
// Run-time quantization of activations. The caller turns ranges into scales and zero points (codec).
#pragma once

#include <cstdint>

#include "base/thread_pool.h"

namespace nibble::kernels {

// Smallest and largest element of every row; NaN if the row has one. cols > 0.
void row_range(ThreadPool& pool, std::int64_t rows, std::int64_t cols, const float* x, std::int64_t ldx,
               float* lowest, float* highest);

// code = round half to even of clamp(x / scale + zero, low, high), low and high within int8; zeros may be
// null. NaN becomes low.
void quantize_rows(ThreadPool& pool, std::int64_t rows, std::int64_t cols, const float* x, std::int64_t ldx,
                   const float* scales, const std::int32_t* zeros, int low, int high, std::int8_t* codes,
                   std::int64_t ld);

}  // namespace nibble::kernels
