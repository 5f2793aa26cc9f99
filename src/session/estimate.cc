// SPDX-License-Identifier: Apache-2.0
#include "session/estimate.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "session/data_free.h"

namespace nibble {
namespace {

// Program, libraries, configuration and buffers of a run.
constexpr std::uint64_t kFixedMemory = std::uint64_t{64} << 20;
// Copying through the page cache, per second and thread; disks that are slower show only after the cache is
// full.
constexpr double kCopyBytesPerSecond = 1.0e9;
constexpr std::int64_t kSampleRows = 64;
constexpr std::int64_t kSampleCols = 2048;

// Units are taken side by side up to a limit; a larger one is alone.
std::uint64_t peak_memory(const Checkpoint& checkpoint, const OutputPlan& plan, int threads) {
  const std::uint64_t limit = side_by_side_limit(threads);
  std::vector<std::uint64_t> small;
  std::uint64_t largest = 0;
  for (const auto& unit : plan.units) {
    const std::uint64_t bytes = unit_bytes(checkpoint, plan, unit);
    if (bytes <= limit) small.push_back(bytes);
    largest = std::max(largest, bytes);
  }
  std::sort(small.rbegin(), small.rend());
  std::uint64_t together = 0;
  for (std::size_t i = 0; i < small.size() && i < static_cast<std::size_t>(threads); ++i)
    together += small[i];
  std::uint64_t copied = 0;
  for (const CarriedTensor& tensor : plan.carried) {
    if (const TensorInfo* info = checkpoint.find(tensor.source))
      copied = std::max(copied, info->stored_bytes);
  }
  return kFixedMemory + std::max({together, largest, copied});
}

// Seconds a weight of this module takes on one thread: a small matrix of the same scheme, rounded once.
double seconds_per_weight(const PlannedModule& quantized, ThreadPool& pool) {
  QuantizationArgs args = *quantized.scheme->weights;
  std::vector<float> values(kSampleRows * kSampleCols);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i) * 0.37F);
  const Tensor sample = Tensor::from_f32(quantized.dtype, {kSampleRows, kSampleCols}, values);
  double best = 1e9;
  for (int repeat = 0; repeat < 2; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    const auto rounded = CompressedWeight::round_to_nearest(pool, sample, args, quantized.format);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (rounded.ok()) best = std::min(best, elapsed.count());
  }
  return best / static_cast<double>(values.size());
}

}  // namespace

Estimate estimate_data_free(const Checkpoint& checkpoint, const OutputPlan& plan, ThreadPool& pool) {
  Estimate estimate;
  estimate.peak_memory_bytes = peak_memory(checkpoint, plan, pool.size());
  const QuantizationScheme* measured = nullptr;
  double rate = 0;
  double moved = static_cast<double>(plan.files.exact_bytes());
  for (const PlannedModule& quantized : plan.quantized) {
    if (quantized.scheme != measured) rate = seconds_per_weight(quantized, pool);
    measured = quantized.scheme;
    estimate.seconds += rate * static_cast<double>(quantized.weights());
    if (const TensorInfo* info = checkpoint.find(quantized.source))
      moved += static_cast<double>(info->stored_bytes);
  }
  estimate.seconds += moved / kCopyBytesPerSecond;
  return estimate;
}

}  // namespace nibble
