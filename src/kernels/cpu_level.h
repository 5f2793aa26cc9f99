// SPDX-License-Identifier: Apache-2.0
// CPU levels are found at run time (CPUID and the operating system's XCR0). A kernel may lack a level: its
// table then falls back to the next lower one. kPortable always exists and is the oracle of the tests.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

namespace nibble::kernels {

enum class CpuLevel { kPortable, kAvx2, kAvx512, kAvx512Vnni };  // each includes the ones before it

std::string_view level_name(CpuLevel level);  // "portable", "avx2", "avx512", "avx512vnni"
std::optional<CpuLevel> level_from_name(std::string_view name);
CpuLevel best_level();                     // the best this machine has
std::vector<CpuLevel> available_levels();  // kPortable first

// The level every kernel of this process uses: best_level() until it is set. The one process-wide setting of
// nibble; set it before work starts (the program reads NIBBLE_CPU_LEVEL and --cpu-level). `level` must be
// available.
CpuLevel active_level();
void set_active_level(CpuLevel level);

}  // namespace nibble::kernels
