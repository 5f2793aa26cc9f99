// SPDX-License-Identifier: Apache-2.0
#if defined(__x86_64__)
#include "kernels/gguf_fit/table.h"

namespace nibble::kernels::gguf_fit {
namespace {
constexpr int kWidth = 16;
}
}  // namespace nibble::kernels::gguf_fit

#include "kernels/gguf_fit/simd.h"

namespace nibble::kernels::gguf_fit {

const Kernels kAvx512{scale_min, symmetric, level_fits};

}  // namespace nibble::kernels::gguf_fit
#endif
