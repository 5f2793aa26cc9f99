// SPDX-License-Identifier: Apache-2.0
// Scaled dot-product attention over a batch: grouped heads, causal or bidirectional, sliding window, padding
// mask, soft cap. Scores exist for one head and one group of queries at a time.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"

namespace nibble {

struct AttentionArgs {
  std::int64_t sequences = 1;
  std::int64_t queries = 0, keys = 0;  // by sequence; query i stands at position keys - queries + i
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0;
  const float* q = nullptr;  // [sequences * queries, heads * head_dim]
  const float* k = nullptr;  // [keys, kv_heads * head_dim] for each sequence, kv_stride elements apart
  const float* v = nullptr;
  std::int64_t kv_stride = 0;
  const std::uint8_t* key_mask = nullptr;  // [sequences, keys] or null
  float scale = 1;
  float softcap = 0;  // 0: none
  bool causal = true;
  std::int64_t window = 0;  // 0: none; else only keys j > i - window
  float* out = nullptr;     // as q; 0 for a query that may see no key
};

void attend(ThreadPool& pool, const AttentionArgs& args);

}  // namespace nibble
