// SPDX-License-Identifier: Apache-2.0
#if defined(__x86_64__)
#include "kernels/gguf_fit/table.h"

namespace nibble::kernels::gguf_fit {
namespace {
constexpr int kWidth = 8;
}
}  // namespace nibble::kernels::gguf_fit

#include "kernels/gguf_fit/simd.h"

namespace nibble::kernels::gguf_fit {

const Kernels kAvx2{scale_min, symmetric, level_fits};

}  // namespace nibble::kernels::gguf_fit
#endif
