// SPDX-License-Identifier: Apache-2.0
#if defined(__AVX512F__)
#include "kernels/simd/avx512.h"

#include "kernels/packed/body.h"  // written in the vocabulary above

namespace nibble::kernels::packed {
const Kernels kAvx512 = make_kernels();
}  // namespace nibble::kernels::packed
#endif
