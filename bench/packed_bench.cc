// SPDX-License-Identifier: Apache-2.0
// Linear layers on packed weights: GB/s is weight bytes per second (decode is bound by it), GFLOP/s the dense
// rate.
#include <benchmark/benchmark.h>

#include <vector>

#include "kernels/cpu_level.h"
#include "kernels/packed_linear.h"

namespace {

using namespace nibble;
using namespace nibble::kernels;

enum Format : std::int64_t { kF32, kBf16, kInt2, kInt3, kInt4, kInt4Zero, kInt8, kTable4, kFp8 };

PackedWeights weights(ThreadPool& pool, std::int64_t format, std::int64_t rows, std::int64_t cols) {
  if (format == kF32 || format == kBf16) {
    const std::vector<float> w(static_cast<std::size_t>(rows * cols), 0.01f);
    return pack_dense(pool, rows, cols, w.data(), cols, format == kF32 ? DType::kF32 : DType::kBF16);
  }
  const std::vector<std::int8_t> codes(static_cast<std::size_t>(rows * cols), 1),
      zeros(codes.size() / 128, 1);
  const std::vector<float> scales(zeros.size(), 0.5f);
  CodedWeights w{.rows = rows,
                 .cols = cols,
                 .codes = codes.data(),
                 .ld = cols,
                 .scales = scales.data(),
                 .scale_ld = cols / 128,
                 .group_size = 128};
  switch (format) {
    case kInt2:
      w.bits = 2;
      break;
    case kInt3:
      w.bits = 3;
      break;
    case kInt8:
      w.bits = 8;
      break;
    case kTable4:
      w.bits = 4, w.kind = CodeKind::kTable;
      break;
    case kFp8:
      w.bits = 8, w.kind = CodeKind::kFloat8;
      break;
    default:
      w.bits = 4;
      break;
  }
  if (format == kInt4Zero) w.zeros = zeros.data();
  return pack_codes(pool, w);
}

// Arguments: tokens, rows, cols, format, threads, level.
void packed_linear(benchmark::State& state) {
  const std::int64_t tokens = state.range(0), rows = state.range(1), cols = state.range(2);
  const auto level = static_cast<CpuLevel>(state.range(5));
  if (level > best_level()) return state.SkipWithError("CPU level not available");
  const CpuLevel before = active_level();
  set_active_level(level);
  ThreadPool pool(static_cast<int>(state.range(4)));
  const PackedWeights w = weights(pool, state.range(3), rows, cols);
  const std::vector<float> x(static_cast<std::size_t>(tokens * cols), 0.1f);
  std::vector<float> y(static_cast<std::size_t>(tokens * rows));
  for (auto _ : state) linear(pool, tokens, x.data(), cols, w, y.data(), rows);
  set_active_level(before);
  state.counters["GFLOP/s"] = benchmark::Counter(2e-9 * static_cast<double>(tokens * rows * cols),
                                                 benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GB/s"] = benchmark::Counter(1e-9 * static_cast<double>(w.bytes()),
                                              benchmark::Counter::kIsIterationInvariantRate);
}

void arguments(benchmark::internal::Benchmark* bench) {
  for (const std::int64_t level : {2, 1}) {
    for (std::int64_t format = kF32; format <= kFp8; ++format) bench->Args({1, 4096, 8192, format, 1, level});
    for (const std::int64_t tokens : {2, 4, 8, 512}) bench->Args({tokens, 4096, 8192, kInt4, 1, level});
  }
  for (const std::int64_t format : {kF32, kBf16, kInt4, kInt8}) bench->Args({1, 4096, 8192, format, 2, 2});
}

BENCHMARK(packed_linear)->Apply(arguments)->UseRealTime()->MinTime(0.2);

}  // namespace
