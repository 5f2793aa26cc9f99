// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/tile.h"
#include "kernels/level_table.h"

namespace nibble::kernels::gemm {

const Kernels& kernels() {
#if defined(__x86_64__)
  static constexpr LevelTable<Kernels> kTables{&kPortable, &kAvx2, &kAvx512, nullptr};
#else
  static constexpr LevelTable<Kernels> kTables{&kPortable, nullptr, nullptr, nullptr};
#endif
  return pick_level(kTables);
}

}  // namespace nibble::kernels::gemm
