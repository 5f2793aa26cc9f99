// SPDX-License-Identifier: Apache-2.0
#include "kernels/simd/portable.h"

#include "kernels/rows/body.h"  // written in the vocabulary above

namespace nibble::kernels::rows {
const Kernels kPortable = make_kernels();
}  // namespace nibble::kernels::rows
