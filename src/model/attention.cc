// SPDX-License-Identifier: Apache-2.0
#include "model/attention.h"

#include <algorithm>
#include <limits>

#include "base/tensor.h"
#include "kernels/gemm.h"
#include "kernels/rows.h"

namespace nibble {
namespace {

constexpr std::int64_t kQueryBlock = 64;

// Keys [first, last) that some query of [q0, q1) may see.
struct KeyRange {
  std::int64_t first, last;
};

KeyRange visible_keys(const AttentionArgs& a, std::int64_t q0, std::int64_t q1) {
  const std::int64_t past = a.keys - a.queries;
  const std::int64_t last = a.causal ? std::min(a.keys, past + q1) : a.keys;
  const std::int64_t first = a.window > 0 ? std::max<std::int64_t>(0, past + q0 - a.window + 1) : 0;
  return {first, last};
}

// Sets the scores that query `q` may not see to minus infinity.
void mask_row(const AttentionArgs& a, std::int64_t sequence, std::int64_t q, const KeyRange& range,
              float* scores) {
  constexpr float kHidden = -std::numeric_limits<float>::infinity();
  const std::int64_t position = a.keys - a.queries + q;
  for (std::int64_t j = range.first; j < range.last; ++j) {
    const bool later = a.causal && j > position;
    const bool outside = a.window > 0 && j <= position - a.window;
    const bool padding = a.key_mask != nullptr && a.key_mask[sequence * a.keys + j] == 0;
    if (later || outside || padding) scores[j - range.first] = kHidden;
  }
}

void attend_block(ThreadPool& pool, const AttentionArgs& a, std::int64_t sequence, std::int64_t head,
                  std::int64_t q0, std::int64_t q1, Matrix& scores) {
  const std::int64_t kv_head = head / (a.heads / a.kv_heads);
  const std::int64_t q_width = a.heads * a.head_dim;
  const std::int64_t kv_width = a.kv_heads * a.head_dim;
  const KeyRange range = visible_keys(a, q0, q1);
  const std::int64_t count = range.last - range.first;
  const std::int64_t rows = q1 - q0;
  const std::int64_t q_offset = (sequence * a.queries + q0) * q_width + head * a.head_dim;
  const std::int64_t kv_offset = sequence * a.kv_stride + range.first * kv_width + kv_head * a.head_dim;
  float* s = scores.data();

  kernels::gemm_nt(pool, rows, count, a.head_dim, a.q + q_offset, q_width, a.k + kv_offset, kv_width, s,
                   count);
  for (std::int64_t i = 0; i < rows * count; ++i) s[i] *= a.scale;
  if (a.softcap > 0) kernels::soft_cap(pool, rows, count, a.softcap, s, count);
  for (std::int64_t q = q0; q < q1; ++q) mask_row(a, sequence, q, range, s + (q - q0) * count);
  kernels::softmax(pool, rows, count, s, count, s, count);
  kernels::gemm_nn(pool, rows, a.head_dim, count, s, count, a.v + kv_offset, kv_width, a.out + q_offset,
                   q_width);
}

}  // namespace

void attend(ThreadPool& pool, const AttentionArgs& args) {
  const std::int64_t query_blocks = (args.queries + kQueryBlock - 1) / kQueryBlock;
  const std::int64_t tasks = args.sequences * args.heads * query_blocks;
  pool.parallel_for(tasks, 1, [&](std::int64_t first, std::int64_t last) {
    Matrix scores(std::min(kQueryBlock, args.queries), args.keys);
    for (std::int64_t task = first; task < last; ++task) {
      const std::int64_t block = task % query_blocks;
      const std::int64_t head = task / query_blocks % args.heads;
      const std::int64_t sequence = task / query_blocks / args.heads;
      const std::int64_t q0 = block * kQueryBlock;
      attend_block(pool, args, sequence, head, q0, std::min(q0 + kQueryBlock, args.queries), scores);
    }
  });
}

}  // namespace nibble
