// SPDX-License-Identifier: Apache-2.0
#include "session/estimate.h"

#include <time.h>

#include <algorithm>

#include <cmath>

#include "session/data_free.h"

namespace nibble {
namespace {

// Copying through the page cache, per second and thread; disks that are slower show only after the cache is
// full.
constexpr double kCopyBytesPerSecond = 1.0e9;
constexpr std::int64_t kSampleRows = 64;
constexpr std::int64_t kSampleCols = 2048;

// Small items are taken side by side, one a thread; a larger one is alone.
std::uint64_t most_in_work(std::vector<std::uint64_t> sizes, std::uint64_t limit, int threads) {
  std::sort(sizes.rbegin(), sizes.rend());
  std::uint64_t together = 0;
  int taken = 0;
  for (const std::uint64_t size : sizes) {
    if (size <= limit && taken++ < threads) together += size;
  }
  return sizes.empty() ? 0 : std::max(together, sizes.front());
}

// Mapped pages, a decoded copy where the file holds blocks, and a converted one where the type changes.
std::uint64_t carried_bytes(const TensorInfo& info, DType target) {
  const auto elements = static_cast<std::uint64_t>(element_count(info.shape));
  const bool is_view = dtype_from_safetensors(info.stored_as) == info.dtype;
  return info.stored_bytes + (is_view ? 0 : elements * dtype_bytes(info.dtype)) +
         (info.dtype == target ? 0 : elements * dtype_bytes(target));
}

std::uint64_t peak_memory(const Checkpoint& checkpoint, const OutputPlan& plan, std::uint64_t budget,
                          int threads) {
  std::vector<std::uint64_t> units;
  for (const auto& unit : plan.units) units.push_back(unit_bytes(checkpoint, plan, unit));
  std::vector<std::uint64_t> carried;
  for (const CarriedTensor& tensor : plan.carried) {
    if (const TensorInfo* info = checkpoint.find(tensor.source)) {
      carried.push_back(carried_bytes(*info, tensor.dtype));
    }
  }
  const std::uint64_t limit = side_by_side_limit(budget, threads);
  const std::uint64_t working = std::max(most_in_work(std::move(units), limit, threads),
                                         most_in_work(std::move(carried), limit, threads));
  return kFixedMemory + working + working / 4;  // a quarter: what the allocator keeps
}

// CPU seconds of this thread: what other processes do must not change the estimate.
double cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// CPU seconds of rounding one weight of this module: a small matrix of the same scheme, the better of two
// runs.
double seconds_per_weight(const PlannedModule& quantized) {
  ThreadPool one(1);
  std::vector<float> values(kSampleRows * kSampleCols);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i) * 0.37F);
  const Tensor sample = Tensor::from_f32(quantized.dtype, {kSampleRows, kSampleCols}, values);
  double best = 1;
  for (int repeat = 0; repeat < 2; ++repeat) {
    const double start = cpu_seconds();
    const auto rounded =
        CompressedWeight::round_to_nearest(one, sample, *quantized.scheme->weights, quantized.format);
    if (rounded.ok()) best = std::min(best, cpu_seconds() - start);
  }
  return best / static_cast<double>(values.size());
}

}  // namespace

Estimate estimate_data_free(const Checkpoint& checkpoint, const OutputPlan& plan, std::uint64_t memory_budget,
                            ThreadPool& pool) {
  Estimate estimate;
  estimate.peak_memory_bytes = peak_memory(checkpoint, plan, memory_budget, pool.size());
  const QuantizationScheme* measured = nullptr;
  double rate = 0;
  double moved = static_cast<double>(plan.files.exact_bytes());
  for (const PlannedModule& quantized : plan.quantized) {
    if (quantized.scheme != measured) rate = seconds_per_weight(quantized) / pool.size();
    measured = quantized.scheme;
    estimate.seconds += rate * static_cast<double>(quantized.weights());
    if (const TensorInfo* info = checkpoint.find(quantized.source))
      moved += static_cast<double>(info->stored_bytes);
  }
  estimate.seconds += moved / kCopyBytesPerSecond;
  return estimate;
}

}  // namespace nibble
