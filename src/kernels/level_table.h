// SPDX-License-Identifier: Apache-2.0
// Picks a kernel table by CPU level. Not for units that are compiled with instruction-set flags (style: the
// one-definition trap): only the baseline code that calls them includes it.
#pragma once

#include <array>
#include <cstddef>

#include "base/check.h"
#include "kernels/cpu_level.h"

namespace nibble::kernels {

// One entry per CpuLevel; a null entry falls back to the next lower level. The first entry always exists.
template <class Table>
using LevelTable = std::array<const Table*, 4>;

template <class Table>
const Table& pick_level(const LevelTable<Table>& tables) {
  for (std::size_t level = static_cast<std::size_t>(active_level()); level > 0; --level) {
    if (tables[level] != nullptr) return *tables[level];
  }
  CHECK(tables[0] != nullptr, "a kernel without a portable version");
  return *tables[0];
}

}  // namespace nibble::kernels
