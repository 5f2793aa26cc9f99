// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu_level.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <array>
#include <atomic>

#include "base/check.h"

namespace nibble::kernels {
namespace {

constexpr std::array<std::string_view, 4> kNames{"portable", "avx2", "avx512", "avx512vnni"};

// -1: not set. Kernels read it at every call: one relaxed load.
std::atomic<int> chosen{-1};

#if defined(__x86_64__)
// Clang 14 has no name for it in __builtin_cpu_supports. Its registers are those of AVX, checked there.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

}  // namespace

std::string_view level_name(CpuLevel level) {
  return kNames[static_cast<std::size_t>(level)];
}

std::optional<CpuLevel> level_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<CpuLevel>(i);
  }
  return std::nullopt;
}

CpuLevel best_level() {
#if defined(__x86_64__)
  // __builtin_cpu_supports also checks that the operating system saves the registers.
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c() &&
                    __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16")) {
    return CpuLevel::kAvx512Vnni;
  }
  if (avx512) return CpuLevel::kAvx512;
  if (avx2) return CpuLevel::kAvx2;
#endif
  return CpuLevel::kPortable;
}

std::vector<CpuLevel> available_levels() {
  std::vector<CpuLevel> levels;
  for (int i = 0; i <= static_cast<int>(best_level()); ++i) levels.push_back(static_cast<CpuLevel>(i));
  return levels;
}

CpuLevel active_level() {
  int level = chosen.load(std::memory_order_relaxed);
  if (level < 0) {
    level = static_cast<int>(best_level());
    chosen.store(level, std::memory_order_relaxed);
  }
  return static_cast<CpuLevel>(level);
}

void set_active_level(CpuLevel level) {
  CHECK(level <= best_level(), "this machine lacks the CPU level");
  chosen.store(static_cast<int>(level), std::memory_order_relaxed);
}

}  // namespace nibble::kernels
