// SPDX-License-Identifier: Apache-2.0
#include "kernels/gguf_fit/table.h"

#include "kernels/level_table.h"

namespace nibble::kernels {
namespace {

const gguf_fit::Kernels& kernels() {
  using gguf_fit::Kernels;
#if defined(__x86_64__)
  static constexpr LevelTable<Kernels> kTables{&gguf_fit::kPortable, &gguf_fit::kAvx2, &gguf_fit::kAvx512,
                                               nullptr};
#else
  static constexpr LevelTable<Kernels> kTables{&gguf_fit::kPortable, nullptr, nullptr, nullptr};
#endif
  return pick_level(kTables);
}

}  // namespace

void fit_scale_min(const MinSearch& search, int n, std::int64_t count, const float* x, const float* weights,
                   std::uint8_t* codes, float* scale, float* min) {
  kernels().scale_min(search, n, count, x, weights, codes, scale, min);
}

void fit_symmetric(int half, int n, std::int64_t count, const float* x, const float* weights,
                   std::int8_t* codes, float* scale) {
  kernels().symmetric(half, n, count, x, weights, codes, scale);
}

void fit_levels(const std::int8_t* levels, std::int64_t count, const float* x, const float* weights,
                float* scale) {
  kernels().levels(levels, count, x, weights, scale);
}

}  // namespace nibble::kernels
