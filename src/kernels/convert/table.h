// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace nibble::kernels::convert {

struct Format {
  void (*decode)(const void* bytes, std::int64_t count, float* out);
  void (*encode)(const float* values, std::int64_t count, void* bytes);
};

struct Kernels {
  Format f16, bf16, f8e4m3, f8e5m2;
};

extern const Kernels kPortable;
extern const Kernels kAvx2;
extern const Kernels kAvx512;

const Kernels& kernels();  // of the active level

}  // namespace nibble::kernels::convert
