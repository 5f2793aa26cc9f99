// SPDX-License-Identifier: Apache-2.0
// SmoothQuant (2211.10438) and logarithmic equalization: a scale per channel that moves outliers of the
// activations into the weights, so that both can be quantized. Statistics and formulas of llm-compressor
// (modifiers/transform/smoothquant/) and of the paper.
#pragma once

#include <span>
#include <vector>

#include "base/dtype.h"
#include "base/tensor.h"

namespace nibble {

enum class SmoothAlgorithm { kSmoothQuant, kLogEqualization };
enum class SmoothStatistic {
  kRange,   // max - min of each channel, and twice the weights' maximum: the reference
  kAbsMax,  // max |x|: the paper
};

// From the smallest and largest value of each channel.
std::vector<float> smooth_activation_scales(std::span<const float> min, std::span<const float> max,
                                            SmoothStatistic statistic);

// Largest |w| of each input channel over all balance layers, in the units of the statistic.
std::vector<float> smooth_weight_scales(std::span<const Matrix* const> weights, SmoothStatistic statistic);

// s = a^strength / w^(1 - strength), or a / log2(2 + a); at least 1e-5. The columns of the balance layers are
// multiplied by s, what feeds them is divided by it (smooth_fold.h). Every operation, and the exponent,
// is rounded to `dtype`: the reference computes in the model's.
std::vector<float> smooth_scales(std::span<const float> activation, std::span<const float> weight,
                                 double strength, SmoothAlgorithm algorithm, DType dtype = DType::kF32);

}  // namespace nibble
