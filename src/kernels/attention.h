// SPDX-License-Identifier: Apache-2.0
// Softmax attention over fp32 queries, keys and values, for prompts and for single tokens on a key/value
// cache. Scores live in blocks of 64 keys (online softmax), so memory does not grow with queries x keys. A
// query's result is the same bits whichever queries are computed with it and for any number of threads.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "base/thread_pool.h"

namespace nibble::kernels {

struct Attention {
  std::int64_t queries = 0;  // tokens asked for
  std::int64_t keys = 0;     // tokens in k and v
  std::int64_t heads = 0;    // query heads; head h uses key/value head h / (heads / kv_heads)
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t value_dim = 0;  // 0: head_dim

  // Query i stands at position query_offset + i, key j at position j.
  std::int64_t query_offset = 0;
  bool causal = true;                      // key position <= query position
  std::int64_t window = 0;                 // > 0: |query position - key position| < window
  const std::uint8_t* key_mask = nullptr;  // [keys]; keys with 0 are hidden (padding)

  float scale = 1.0f;  // of the products; Llama: 1 / sqrt(head_dim)
  // BF16 or F16: every operation rounds to it (attention/narrow.h).
  DType probability_dtype = DType::kF32;
  float soft_cap = 0.0f;  // > 0: scores become cap * tanh(score / cap)

  // Element (token t, head h, i) at q[t * ldq + h * q_head_stride + i], and so on. A stride of 0 means
  // head_dim (value_dim for v and out): heads side by side in a row.
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  float* out = nullptr;
  std::int64_t ldq = 0, ldk = 0, ldv = 0, ldout = 0;
  std::int64_t q_head_stride = 0, k_head_stride = 0, v_head_stride = 0, out_head_stride = 0;
};

// A query that sees no key gives 0.
void attend(ThreadPool& pool, const Attention& attention);

}  // namespace nibble::kernels
