// SPDX-License-Identifier: Apache-2.0
#if defined(__AVX512F__)
#include "kernels/simd/avx512.h"

#include "kernels/attention/body.h"  // written in the vocabulary above

namespace nibble::kernels::attention {
const Kernels kAvx512 = make_kernels();
}  // namespace nibble::kernels::attention
#endif
