// SPDX-License-Identifier: Apache-2.0
#if defined(__AVX2__)
#include "kernels/simd/avx2.h"

#include "kernels/packed/body.h"  // written in the vocabulary above

namespace nibble::kernels::packed {
const Kernels kAvx2 = make_kernels();
}  // namespace nibble::kernels::packed
#endif
