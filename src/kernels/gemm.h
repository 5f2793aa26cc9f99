// SPDX-License-Identifier: Apache-2.0
// Dense fp32 products. Matrices are row-major; ld* is the distance between rows in elements. Every output
// element is one sum over k in an order that depends on k alone, so results are equal for any number of
// threads and any split of the rows. `accumulate` adds to c instead of overwriting it.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"

namespace nibble::kernels {

// c[m, n] = a[m, k] * b[n, k]^T: a linear with weight b [out, in] on tokens a.
void gemm_nt(ThreadPool& pool, std::int64_t m, std::int64_t n, std::int64_t k, const float* a,
             std::int64_t lda, const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
             bool accumulate = false);

// c[m, n] = a[m, k] * b[k, n].
void gemm_nn(ThreadPool& pool, std::int64_t m, std::int64_t n, std::int64_t k, const float* a,
             std::int64_t lda, const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
             bool accumulate = false);

// c[m, n] = a[k, m]^T * b[k, n]: weight gradients, cross moments.
void gemm_tn(ThreadPool& pool, std::int64_t m, std::int64_t n, std::int64_t k, const float* a,
             std::int64_t lda, const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
             bool accumulate = false);

// h[n, n] += scale * x[k, n]^T * x[k, n]; computes one triangle (half the work of gemm_tn) and mirrors it.
void syrk_tn(ThreadPool& pool, std::int64_t n, std::int64_t k, const float* x, std::int64_t ldx, float scale,
             float* h, std::int64_t ldh);

// The same for those who read the upper triangle only: what stands below it is arbitrary. h is overwritten
// unless `accumulate`.
void syrk_tn_upper(ThreadPool& pool, std::int64_t n, std::int64_t k, const float* x, std::int64_t ldx,
                   float scale, float* h, std::int64_t ldh, bool accumulate);

// h[j, i] = h[i, j] for i < j.
void mirror_upper(ThreadPool& pool, std::int64_t n, float* h, std::int64_t ldh);

}  // namespace nibble::kernels
