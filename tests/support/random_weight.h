// SPDX-License-Identifier: Apache-2.0
// Weights for tests of number formats and observers.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "base/rng.h"
#include "base/tensor.h"

namespace nibble::testing {

// Normal values of deviation 0.05; with `tail` each times the exponential of a normal one of that deviation.
inline Tensor random_weight(DType dtype, std::int64_t rows, std::int64_t cols, std::uint64_t seed,
                            double tail = 0) {
  Rng rng(seed);
  std::vector<float> values(static_cast<std::size_t>(rows * cols));
  for (float& value : values) {
    const double normal = 0.05 * rng.normal();
    value = static_cast<float>(tail == 0 ? normal : normal * std::exp(rng.normal() * tail));
  }
  return Tensor::from_f32(dtype, {rows, cols}, values);
}

}  // namespace nibble::testing
