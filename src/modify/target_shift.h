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

// One linear under the shifts of parts of the tokens. `direction` = W S (H + lambda I)^-1, `cross` = W S.
struct ShiftDirections {
  std::vector<Matrix> direction, cross;
  double lambda = 0;
};

// The shifts of one input, for all linears that read it: one inverse. In fp32: lambda keeps the condition
// low, and few tokens leave far more doubt about S than rounding does.
class ShiftSolver {
 public:
  // Hessian and shifts must outlive it. lambda = dampening_frac * mean diagonal.
  ShiftSolver(const Hessian& hessian, std::vector<const InputShift*> shifts, double dampening_frac);
  Result<ShiftDirections> directions(ThreadPool& pool, const Matrix& weight);

 private:
  Status invert(ThreadPool& pool);

  const Hessian& hessian_;
  std::vector<const InputShift*> shifts_;
  double dampening_frac_;
  Matrix inverse_;  // (H + lambda I)^-1, once asked for
  double lambda_ = 0;
};

// The strength in [0, 1] of the direction of part `found` that serves the tokens of part `there` best: the
// minimum of a parabola, no search. The parts count as equal in their second moments, so the curvature comes
// from the direction's own equation and costs no product.
double held_out_strength(const ShiftDirections& directions, std::size_t found, std::size_t there);

// weight + strength * direction.
Matrix shifted_target(const Matrix& weight, const Matrix& direction, double strength);

// The best bias for a changed weight: E[weight x_original + bias] = E[changed x + result]. `input_mean` =
// E[x]; `deviation_mean` = E[x_original - x] or empty. Use with a centred Hessian (algorithms A0): the two
// together are the exact minimum over weight and bias.
std::vector<float> update_bias(std::span<const float> bias, const Matrix& weight, const Matrix& changed,
                               std::span<const double> input_mean,
                               std::span<const double> deviation_mean = {});

}  // namespace nibble
