// SPDX-License-Identifier: Apache-2.0
// Scale searches behind GGUF's quantizers (the methods of llama.cpp's ggml-quants.c; algorithms A1), for many
// blocks at once. Vector levels give each lane a block of its own and follow the portable order of operations
// inside it: sums run in fp32 in index order, because the bytes of a file depend on it. All levels give the
// same bits.
#pragma once

#include <cstdint>

namespace nibble::kernels {

inline constexpr int kFitMost = 32;  // values of a block, at most

// Codes 0 to top with a scale and a min: starts from min-max, then for each candidate rounds, fits scale and
// min by weighted least squares (min not positive), and keeps the smallest weighted error.
struct MinSearch {
  int top;      // largest code
  float first;  // candidate i has the inverse scale (first + i * step + top) / (max - min)
  float step;
  int steps;      // candidates 0 to steps; -1: min-max alone
  bool absolute;  // error: |difference| instead of its square
};

// Block b is x[b * n, (b + 1) * n), n <= kFitMost. Values are scale * code - min, min >= 0.
void fit_scale_min(const MinSearch& search, int n, std::int64_t count, const float* x, const float* weights,
                   std::uint8_t* codes, float* scale, float* min);

// Codes -half to half - 1, stored with `half` added: nineteen inverse scales around -half / (value of largest
// magnitude); each least-squares scale maximises (sum w x l)^2 / sum w l^2. `weights` null means x^2. A block
// below 1e-15 has scale 0 and codes 0.
void fit_symmetric(int half, int n, std::int64_t count, const float* x, const float* weights,
                   std::int8_t* codes, float* scale);

// The scale of blocks of 32 on sixteen rising levels, the first one negative and of largest magnitude:
// inverse scales put the extreme value at whole numbers within 7 of that level. A value takes the nearest
// level, of two the higher.
void fit_levels(const std::int8_t* levels, std::int64_t count, const float* x, const float* weights,
                float* scale);

}  // namespace nibble::kernels
