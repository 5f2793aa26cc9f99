// SPDX-License-Identifier: Apache-2.0
// Aims a layer at the original model's outputs although its inputs already deviate (QEP, 2504.09629;
// algorithms A3-2). ||Q x - W x_original||^2 = ||(Q - W*) x||^2 + const, so any solver run on W* instead of W
// does it:
//   W* = W + strength * W S (H + lambda I)^-1,  S = E[(x_original - x) x^T].
#pragma once

#include <span>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"
#include "base/thread_pool.h"
#include "calibrate/hessian.h"

namespace nibble {

// W S (H + lambda I)^-1 with lambda = dampening_frac * mean diagonal. Both statistics are of the same tokens.
Result<Matrix> shift_direction(ThreadPool& pool, const Matrix& weight, const Hessian& hessian,
                               const InputShift& shift, double dampening_frac);

// The same for several shifts under one Hessian: one factorisation, and no more right-hand sides a shift than
// the weight has rows or columns.
Result<std::vector<Matrix>> shift_directions(ThreadPool& pool, const Matrix& weight, const Hessian& hessian,
                                             std::span<const InputShift* const> shifts,
                                             double dampening_frac);

// The strength in [0, 1] that serves held-out tokens best: the minimum of a parabola, no search.
double held_out_strength(ThreadPool& pool, const Matrix& weight, const Matrix& direction,
                         const Hessian& held_out_hessian, const InputShift& held_out_shift);

// weight + strength * direction.
Matrix shifted_target(const Matrix& weight, const Matrix& direction, double strength);

// The best bias for a changed weight: E[weight x_original + bias] = E[changed x + result]. `input_mean` =
// E[x]; `deviation_mean` = E[x_original - x] or empty. Use with a centred Hessian (algorithms A0): the two
// together are the exact minimum over weight and bias.
std::vector<float> update_bias(std::span<const float> bias, const Matrix& weight, const Matrix& changed,
                               std::span<const double> input_mean,
                               std::span<const double> deviation_mean = {});

}  // namespace nibble
