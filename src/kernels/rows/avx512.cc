// SPDX-License-Identifier: Apache-2.0
#if defined(__AVX512F__)
#include "kernels/simd/avx512.h"

#include "kernels/rows/body.h"  // written in the vocabulary above

namespace nibble::kernels::rows {
const Kernels kAvx512 = make_kernels();
}  // namespace nibble::kernels::rows
#endif
