// SPDX-License-Identifier: Apache-2.0
// Scales per channel that move range between activations and weights so that both round with the least noise.
//
// A uniform quantizer adds noise in proportion to the square of the largest value it has to hold. With
// u = s^2 (columns of W are multiplied by s, inputs divided by it) the noise of the outputs of a layer with
// inputs rounded per token and weights per row is
//
//   E_t[ max_j x_tj^2 / u_j ] sum_j |W_:j|^2 u_j / q_a^2  +  sum_i [ max_j w_ij^2 u_j ] sum_j E[x_j^2] / u_j
//   / q_w^2
//
// with q = 2^bits - 1. Sums, products and maxima of monomials in u: a posynomial, so its logarithm is convex
// in log u (Boyd and others, "A tutorial on geometric programming", 2007) and descent finds the one minimum.
// SmoothQuant's a^strength / w^(1 - strength) (2211.10438) is the start.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/tensor.h"
#include "base/thread_pool.h"
#include "codec/scheme.h"

namespace nibble {

// The inputs that the balance layers share.
struct SmoothInputs {
  const Matrix* sample = nullptr;  // [tokens, cols]: some of the calibration's tokens
  std::span<const float> abs_max;  // of all of them, per column
  std::span<const float> mean_square;
};

// A balance layer; null: this side of it is not rounded. Integer codes: floating-point codes round in
// proportion to each value, whatever the scale.
struct SmoothLayer {
  const Matrix* weight = nullptr;
  const QuantizationArgs* weights = nullptr;
  const QuantizationArgs* activations = nullptr;
};

struct SmoothChoice {
  std::vector<float> scales;  // one a column; their logarithms have mean 0
  double noise_before = 0;    // relative to the outputs: of the layers as they are, and with the scales
  double noise_after = 0;
};

// `tie` makes values of columns equal where they read the same output (mean_over_groups), and is linear.
// Cost: 240 passes over the sample and as many rows of each weight.
SmoothChoice search_smooth_scales(ThreadPool& pool, const SmoothInputs& inputs,
                                  std::span<const SmoothLayer> layers,
                                  const std::function<std::vector<float>(std::span<const float>)>& tie);

}  // namespace nibble
