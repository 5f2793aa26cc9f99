// SPDX-License-Identifier: Apache-2.0
// What this machine offers: CPU, memory, and how fast both are. Measurements take part of a second each.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/context.h"

namespace nibble::app {

struct Machine {
  std::string cpu_name;
  int cpus_present = 0;  // in the machine
  int cpus_usable = 0;   // after affinity and cgroup quota
  int numa_nodes = 1;
  std::vector<std::pair<std::string, std::uint64_t>> caches;  // of the first core: {"L2", bytes}
  std::uint64_t memory_bytes = 0;
  std::uint64_t memory_available_bytes = 0;
  std::optional<std::uint64_t> memory_limit_bytes;  // of the cgroup (container)
};

Machine look_at_machine();

// Bytes read and written per second by all threads of the pool (large copies, best of a few).
double measure_memory_bandwidth(ThreadPool& pool);
// fp32 operations per second of the dense product that calibration and evaluation run on.
double measure_gemm_rate(ThreadPool& pool);

}  // namespace nibble::app
