// SPDX-License-Identifier: Apache-2.0
// SmoothQuant (2211.10438) and logarithmic equalization: a scale per channel that moves outliers of the
// activations into the weights, so that both can be quantized. Statistics and formulas of llm-compressor
// (modifiers/transform/smoothquant/) and of the paper.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "base/error.h"
#include "base/tensor.h"
#include "base/thread_pool.h"
#include "codec/scheme.h"

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

struct StrengthChoice {
  double strength = 0;
  std::vector<float> scales;
  double loss = 0;
  double loss_without = 0;  // of no smoothing
};

// A balance layer whose weight and input are quantized.
struct SmoothLayer {
  const Matrix* weight = nullptr;
  const QuantizationScheme* scheme = nullptr;
};

// The strength whose smoothed and quantized layers differ least from the layers as they are, on sample inputs
// [tokens, cols]. Dynamic activation schemes; static ones are taken as dynamic per tensor. Strengths outside
// (0, 1) are errors.
Result<StrengthChoice> search_strength(ThreadPool& pool, const Matrix& inputs,
                                       std::span<const SmoothLayer> layers, std::span<const float> activation,
                                       std::span<const double> strengths, SmoothStatistic statistic,
                                       DType model_dtype);

}  // namespace nibble
