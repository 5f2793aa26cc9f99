// SPDX-License-Identifier: Apache-2.0
// Dense products at the shapes of transformer layers, against OpenBLAS on one thread.
#include <benchmark/benchmark.h>
#include <cblas.h>

#include <vector>

#include "kernels/cpu_level.h"
#include "kernels/gemm.h"

namespace {

using nibble::ThreadPool;
using namespace nibble::kernels;

std::vector<float> values(std::int64_t count) {
  std::vector<float> out(static_cast<std::size_t>(count));
  std::uint32_t state = 1;
  for (float& v : out) {
    state = state * 1664525u + 1013904223u;
    v = static_cast<float>(state >> 8) / 16777216.0f - 0.5f;
  }
  return out;
}

void set_rates(benchmark::State& state, double flops, double bytes) {
  state.counters["GFLOP/s"] = benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GB/s"] = benchmark::Counter(bytes * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

// Arguments: m, n, k, threads, level (0 portable .. 3).
void gemm_nt_f32(benchmark::State& state) {
  const std::int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const auto level = static_cast<CpuLevel>(state.range(4));
  if (level > best_level()) return state.SkipWithError("CPU level not available");
  const CpuLevel before = active_level();
  set_active_level(level);
  ThreadPool pool(static_cast<int>(state.range(3)));
  const auto a = values(m * k), b = values(n * k);
  std::vector<float> c(static_cast<std::size_t>(m * n));
  for (auto _ : state) gemm_nt(pool, m, n, k, a.data(), k, b.data(), k, c.data(), n);
  set_active_level(before);
  set_rates(state, 2.0 * static_cast<double>(m * n * k), 4.0 * static_cast<double>(n * k));
}

void openblas_nt_f32(benchmark::State& state) {
  const std::int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const auto a = values(m * k), b = values(n * k);
  std::vector<float> c(static_cast<std::size_t>(m * n));
  for (auto _ : state) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(m), static_cast<int>(n),
                static_cast<int>(k), 1.0f, a.data(), static_cast<int>(k), b.data(), static_cast<int>(k), 0.0f,
                c.data(), static_cast<int>(n));
  }
  set_rates(state, 2.0 * static_cast<double>(m * n * k), 4.0 * static_cast<double>(n * k));
}

void syrk_tn_f32(benchmark::State& state) {
  const std::int64_t n = state.range(0), k = state.range(1);
  ThreadPool pool(static_cast<int>(state.range(2)));
  const auto x = values(n * k);
  std::vector<float> h(static_cast<std::size_t>(n * n));
  for (auto _ : state) syrk_tn(pool, n, k, x.data(), n, 1.0f, h.data(), n);
  set_rates(state, static_cast<double>(n * n * k), 4.0 * static_cast<double>(n * k));
}

void openblas_syrk_f32(benchmark::State& state) {
  const std::int64_t n = state.range(0), k = state.range(1);
  const auto x = values(n * k);
  std::vector<float> h(static_cast<std::size_t>(n * n));
  for (auto _ : state) {
    cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, static_cast<int>(n), static_cast<int>(k), 1.0f,
                x.data(), static_cast<int>(n), 1.0f, h.data(), static_cast<int>(n));
  }
  set_rates(state, static_cast<double>(n * n * k), 4.0 * static_cast<double>(n * k));
}

void shapes(benchmark::internal::Benchmark* bench, bool own) {
  const std::int64_t list[][3] = {{2048, 192, 192},  {2048, 576, 576},   {2048, 1536, 576},
                                  {2048, 576, 1536}, {2048, 4096, 4096}, {512, 11008, 4096},
                                  {128, 4096, 4096}, {16, 4096, 4096},   {4, 4096, 4096},
                                  {1, 4096, 4096},   {1, 576, 576}};
  for (const auto& s : list) {
    if (!own) {
      bench->Args({s[0], s[1], s[2]});
      continue;
    }
    for (const std::int64_t level : {2, 1}) bench->Args({s[0], s[1], s[2], 1, level});
    bench->Args({s[0], s[1], s[2], 2, 2});
  }
}

BENCHMARK(gemm_nt_f32)->Apply([](auto* b) { shapes(b, true); }) -> UseRealTime() -> MinTime(0.2);
BENCHMARK(openblas_nt_f32)->Apply([](auto* b) { shapes(b, false); }) -> UseRealTime() -> MinTime(0.2);
BENCHMARK(syrk_tn_f32)->ArgsProduct({{576, 1536, 4096}, {2048}, {1, 2}})->UseRealTime()->MinTime(0.2);
BENCHMARK(openblas_syrk_f32)->ArgsProduct({{576, 1536, 4096}, {2048}})->UseRealTime()->MinTime(0.2);

}  // namespace
