// SPDX-License-Identifier: Apache-2.0
#include "kernels/simd/portable.h"

#include "kernels/attention/body.h"  // written in the vocabulary above

namespace nibble::kernels::attention {
const Kernels kPortable = make_kernels();
}  // namespace nibble::kernels::attention
