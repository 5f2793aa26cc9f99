// SPDX-License-Identifier: Apache-2.0
#include "modify/solver/lanes/lanes.h"

namespace nibble::solver {

namespace portable {
extern const LaneTable kTable;
}
#if defined(__x86_64__)
namespace avx2 {
extern const LaneTable kTable;
}
namespace avx512 {
extern const LaneTable kTable;
}
#endif

const LaneTable& lane_table(kernels::CpuLevel level) {
#if defined(__x86_64__)
  if (level >= kernels::CpuLevel::kAvx512) return avx512::kTable;
  if (level >= kernels::CpuLevel::kAvx2) return avx2::kTable;
#endif
  (void)level;
  return portable::kTable;
}

}  // namespace nibble::solver
