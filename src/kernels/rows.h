// SPDX-License-Identifier: Apache-2.0
// Row-wise fp32 kernels of a transformer's forward: norms, activations, rotary positions, softmax. Matrices
// are row-major, ld* is the distance between rows in elements; input and output may be the same array. Sums
// run in fp64 over 16 lanes in a fixed order. Results do not depend on the number of threads or on how rows
// are split; they are equal at all levels with fused multiply-add and within a few ulp of them at the
// portable level.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"

namespace nibble::kernels {

enum class Activation { kRelu, kRelu2, kSilu, kGeluTanh, kGeluErf, kQuickGelu, kTanh };

// Pairs (i, i + dims / 2) [Hugging Face Llama, NeoX] or (2 i, 2 i + 1) [GPT-J, Cohere].
enum class RopeLayout { kHalves, kInterleaved };

// y = x / sqrt(mean(x^2) + epsilon) * (weight_offset + weight). weight may be null: no scale. Gemma's norm
// has weight_offset 1.
void rms_norm(ThreadPool& pool, std::int64_t rows, std::int64_t cols, const float* x, std::int64_t ldx,
              const float* weight, float weight_offset, float epsilon, float* y, std::int64_t ldy);

// y = (x - mean) / sqrt(variance + epsilon) * weight + bias; weight and bias may be null.
void layer_norm(ThreadPool& pool, std::int64_t rows, std::int64_t cols, const float* x, std::int64_t ldx,
                const float* weight, const float* bias, float epsilon, float* y, std::int64_t ldy);

// y = f(x).
void activate(ThreadPool& pool, Activation f, std::int64_t rows, std::int64_t cols, const float* x,
              std::int64_t ldx, float* y, std::int64_t ldy);

// y = f(gate) * up: the inside of a gated MLP.
void activate_gated(ThreadPool& pool, Activation f, std::int64_t rows, std::int64_t cols, const float* gate,
                    std::int64_t ldgate, const float* up, std::int64_t ldup, float* y, std::int64_t ldy);

// x = cap * tanh(x / cap): Gemma 2's logits.
void soft_cap(ThreadPool& pool, std::int64_t rows, std::int64_t cols, float cap, float* x, std::int64_t ldx);

// y = softmax(x) along the row. A row of -infinity only becomes 0.
void softmax(ThreadPool& pool, std::int64_t rows, std::int64_t cols, const float* x, std::int64_t ldx,
             float* y, std::int64_t ldy);

// out[r] = log(sum(exp(x[r, :]))), the sum in fp64.
void log_sum_exp(ThreadPool& pool, std::int64_t rows, std::int64_t cols, const float* x, std::int64_t ldx,
                 double* out);

// y += alpha * x; two roundings at every level.
void add_scaled(ThreadPool& pool, std::int64_t rows, std::int64_t cols, float alpha, const float* x,
                std::int64_t ldx, float* y, std::int64_t ldy);

// y[r, :] += bias.
void add_bias(ThreadPool& pool, std::int64_t rows, std::int64_t cols, const float* bias, float* y,
              std::int64_t ldy);

// Rotates the first `dims` (even) of every head in place: head h of token t begins at x + t * ldx + h *
// head_dim. cos and sin are tables [position][dims / 2]; token t has position positions[t], or t if positions
// is null. inverse rotates back (the gradient).
struct Rope {
  RopeLayout layout = RopeLayout::kHalves;
  std::int64_t head_dim = 0;
  std::int64_t dims = 0;
  const float* cos = nullptr;
  const float* sin = nullptr;
  const std::int32_t* positions = nullptr;
  bool inverse = false;
};
void apply_rope(ThreadPool& pool, const Rope& rope, std::int64_t tokens, std::int64_t heads, float* x,
                std::int64_t ldx);

}  // namespace nibble::kernels
