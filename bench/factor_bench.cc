// SPDX-License-Identifier: Apache-2.0
// Inverse factor of a Hessian: 2 n^3 / 3 operations.
#include <benchmark/benchmark.h>

#include <vector>

#include "kernels/factor.h"

namespace {

// Arguments: n, threads.
void inverse_factor_f32(benchmark::State& state) {
  const std::int64_t n = state.range(0);
  nibble::ThreadPool pool(static_cast<int>(state.range(1)));
  std::vector<float> h(static_cast<std::size_t>(n * n), 0.5f), u(h.size());
  for (std::int64_t i = 0; i < n; ++i) h[static_cast<std::size_t>(i * n + i)] = 2.0f;
  for (auto _ : state) {
    if (!nibble::kernels::inverse_factor(pool, n, h.data(), n, 0.01, u.data(), n).ok()) std::abort();
  }
  const auto size = static_cast<double>(n);
  state.counters["GFLOP/s"] =
      benchmark::Counter(2e-9 / 3.0 * size * size * size, benchmark::Counter::kIsIterationInvariantRate);
}

BENCHMARK(inverse_factor_f32)
    ->ArgsProduct({{576, 1536, 4096}, {1, 2}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
