// SPDX-License-Identifier: Apache-2.0
// Bulk conversions between fp32 and the narrower float formats: bit for bit the scalar functions of
// base/dtype.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "base/tensor.h"
#include "base/thread_pool.h"

namespace nibble::kernels {

// F32, F16, BF16, F8_E4M3, F8_E5M2.
bool is_convertible(DType dtype);

// `bytes` holds `count` elements of `from`, at any alignment.
void decode_to_f32(ThreadPool& pool, DType from, const std::byte* bytes, std::int64_t count, float* out);
// Rounds half to even.
void encode_from_f32(ThreadPool& pool, DType to, const float* values, std::int64_t count, std::byte* bytes);
// The same array after a round trip through `dtype`.
void round_through(ThreadPool& pool, DType dtype, float* values, std::int64_t count);

// Tensor::from_f32 and decode_f32 of a whole tensor, on all threads.
Tensor to_tensor(ThreadPool& pool, DType dtype, const Matrix& m);
void decode(ThreadPool& pool, const Tensor& tensor, Matrix& out);

}  // namespace nibble::kernels
