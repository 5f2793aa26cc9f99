// SPDX-License-Identifier: Apache-2.0
// Every test program runs at the CPU level NIBBLE_CPU_LEVEL names, as nibble itself does; without it at the
// best one. Tests of the kernels walk all levels whatever it says.
#include "kernels/cpu_level.h"

#include <cstdio>
#include <cstdlib>

namespace nibble {
namespace {

[[maybe_unused]] const bool level_was_set = [] {
  const char* name = std::getenv("NIBBLE_CPU_LEVEL");
  if (name == nullptr) return false;
  const auto level = kernels::level_from_name(name);
  if (!level || *level > kernels::best_level()) {
    std::fprintf(stderr, "NIBBLE_CPU_LEVEL: this machine has no level \"%s\"\n", name);
    std::exit(2);
  }
  kernels::set_active_level(*level);
  return true;
}();

}  // namespace
}  // namespace nibble
