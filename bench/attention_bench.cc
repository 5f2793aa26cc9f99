// SPDX-License-Identifier: Apache-2.0
// Attention for a prompt (causal) and for one token on a cache.
#include <benchmark/benchmark.h>

#include <vector>

#include "kernels/attention.h"

namespace {

using namespace nibble;

// Arguments: queries, keys, heads, kv_heads, head_dim, threads.
void attention(benchmark::State& state) {
  kernels::Attention a;
  a.queries = state.range(0), a.keys = state.range(1), a.heads = state.range(2), a.kv_heads = state.range(3);
  a.head_dim = state.range(4);
  a.query_offset = a.keys - a.queries;
  a.scale = 0.1f;
  a.ldq = a.ldout = a.heads * a.head_dim;
  a.ldk = a.ldv = a.kv_heads * a.head_dim;
  const std::vector<float> q(static_cast<std::size_t>(a.queries * a.ldq), 0.1f);
  const std::vector<float> kv(static_cast<std::size_t>(a.keys * a.ldk), 0.2f);
  std::vector<float> out(q.size());
  a.q = q.data(), a.k = a.v = kv.data(), a.out = out.data();
  ThreadPool pool(static_cast<int>(state.range(5)));
  for (auto _ : state) kernels::attend(pool, a);
  const double pairs =
      static_cast<double>(a.queries) * (static_cast<double>(a.keys) - 0.5 * static_cast<double>(a.queries));
  state.counters["GFLOP/s"] = benchmark::Counter(4e-9 * pairs * static_cast<double>(a.heads * a.head_dim),
                                                 benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GB/s"] = benchmark::Counter(8e-9 * static_cast<double>(a.keys * a.ldk),
                                              benchmark::Counter::kIsIterationInvariantRate);
}

BENCHMARK(attention)
    ->Args({2048, 2048, 9, 3, 64, 1})
    ->Args({2048, 2048, 9, 3, 64, 2})
    ->Args({2048, 2048, 8, 8, 128, 1})
    ->Args({2048, 2048, 32, 8, 128, 2})
    ->Args({384, 384, 12, 12, 64, 1})
    ->Args({1, 2048, 32, 8, 128, 1})
    ->Args({1, 2048, 32, 8, 128, 2})
    ->Args({1, 2048, 9, 3, 64, 1})
    ->UseRealTime()
    ->MinTime(0.2);

}  // namespace
