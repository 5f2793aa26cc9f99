// SPDX-License-Identifier: Apache-2.0
#include "machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "base/memory_budget.h"
#include "base/tensor.h"
#include "kernels/gemm.h"

namespace nibble::app {
namespace {

// The value behind "name:" or "name   :" in a /proc file; empty when there is none.
std::string proc_field(const char* path, std::string_view name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos || !line.starts_with(name)) continue;
    const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? std::string() : line.substr(begin);
  }
  return {};
}

std::uint64_t kibibytes(const std::string& text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value * 1024;
}

int count_numa_nodes() {
  std::error_code error;
  int nodes = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/devices/system/node", error)) {
    const std::string name = entry.path().filename().string();
    if (name.size() > 4 && name.starts_with("node") && std::isdigit(static_cast<unsigned char>(name[4])) != 0)
      ++nodes;
  }
  return std::max(nodes, 1);
}

std::string first_word(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string word;
  file >> word;
  return word;
}

// Data caches as sysfs has them: "32K", "36864K".
std::vector<std::pair<std::string, std::uint64_t>> find_caches() {
  std::vector<std::pair<std::string, std::uint64_t>> caches;
  for (int i = 0; i < 8; ++i) {
    const std::filesystem::path cache = fmt::format("/sys/devices/system/cpu/cpu0/cache/index{}", i);
    const std::string type = first_word(cache / "type");
    if (type != "Data" && type != "Unified") continue;
    caches.emplace_back("L" + first_word(cache / "level"), kibibytes(first_word(cache / "size")));
  }
  return caches;
}

// Seconds of the fastest of `tries` runs.
template <class Body>
double fastest(int tries, const Body& body) {
  double best = 1e300;
  for (int i = 0; i < tries; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    body();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

}  // namespace

Machine look_at_machine() {
  Machine machine;
  machine.cpu_name = proc_field("/proc/cpuinfo", "model name");
  machine.cpus_present = static_cast<int>(std::thread::hardware_concurrency());
  machine.cpus_usable = available_cpus();
  machine.numa_nodes = count_numa_nodes();
  machine.caches = find_caches();
  machine.memory_bytes = kibibytes(proc_field("/proc/meminfo", "MemTotal"));
  machine.memory_available_bytes = kibibytes(proc_field("/proc/meminfo", "MemAvailable"));
  if (usable_memory_bytes() < machine.memory_bytes) machine.memory_limit_bytes = usable_memory_bytes();
  return machine;
}

double measure_memory_bandwidth(ThreadPool& pool) {
  constexpr std::int64_t kBytes = std::int64_t{192} << 20;  // beyond the caches
  constexpr std::int64_t kChunk = std::int64_t{1} << 20;
  const std::shared_ptr<std::byte> from = allocate_aligned(kBytes);
  const std::shared_ptr<std::byte> to = allocate_aligned(kBytes);
  const auto copy = [&] {
    pool.parallel_for(kBytes / kChunk, 1, [&](std::int64_t first, std::int64_t last) {
      std::memcpy(to.get() + first * kChunk, from.get() + first * kChunk,
                  static_cast<std::size_t>((last - first) * kChunk));
    });
  };
  std::memset(from.get(), 1, kBytes);  // untouched pages would all be the same zero page
  copy();
  return 2.0 * static_cast<double>(kBytes) / fastest(5, copy);
}

double measure_gemm_rate(ThreadPool& pool) {
  constexpr std::int64_t kSize = 1024;
  Matrix a(kSize, kSize);
  Matrix b(kSize, kSize);
  Matrix c(kSize, kSize);
  for (std::int64_t i = 0; i < kSize * kSize; ++i) {
    a.data()[i] = static_cast<float>(i % 17) - 8.0f;
    b.data()[i] = static_cast<float>(i % 13) - 6.0f;
  }
  const auto product = [&] {
    kernels::gemm_nt(pool, kSize, kSize, kSize, a.data(), kSize, b.data(), kSize, c.data(), kSize);
  };
  product();
  return 2.0 * static_cast<double>(kSize * kSize * kSize) / fastest(8, product);
}

}  // namespace nibble::app
