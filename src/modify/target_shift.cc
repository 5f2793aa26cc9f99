// SPDX-License-Identifier: Apache-2.0
#include "modify/target_shift.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "kernels/gemm.h"
#include "modify/solver/check_input.h"
#include "modify/solver/factor.h"

namespace nibble {
namespace {

Matrix product(ThreadPool& pool, const Matrix& a, const Matrix& b) {
  Matrix c = Matrix::for_overwrite(a.rows(), b.cols());
  kernels::gemm_nn(pool, a.rows(), b.cols(), a.cols(), a.data(), a.cols(), b.data(), b.cols(), c.data(),
                   c.cols());
  return c;
}

double dot(const Matrix& a, const Matrix& b) {
  constexpr std::size_t kLanes = 16;  // sums side by side: one would wait for itself
  const std::span<const float> x = a.values(), y = b.values();
  std::array<double, kLanes> sums{};
  for (std::size_t i = 0; i < x.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < std::min(kLanes, x.size() - i); ++lane)
      sums[lane] += static_cast<double>(x[i + lane]) * static_cast<double>(y[i + lane]);
  }
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace

ShiftSolver::ShiftSolver(const Hessian& hessian, std::vector<const InputShift*> shifts, double dampening_frac)
    : hessian_(hessian), shifts_(std::move(shifts)), dampening_frac_(dampening_frac) {}

Status ShiftSolver::invert(ThreadPool& pool) {
  constexpr double kLargestFrac = 1e3, kFirstRaise = 1e-4;
  const std::vector<float> diagonal = solver::live_diagonal(hessian_.values);
  const double mean =
      std::accumulate(diagonal.begin(), diagonal.end(), 0.0) / static_cast<double>(diagonal.size());
  for (double frac = dampening_frac_;; frac = std::max(frac * 10, kFirstRaise)) {
    lambda_ = frac * mean;
    Result<Matrix> inverse = solver::damped_inverse(pool, hessian_.values, lambda_);
    if (inverse.ok()) {
      inverse_ = std::move(inverse).value();
      return {};
    }
    if (frac > kLargestFrac) return inverse.error();
  }
}

Result<ShiftDirections> ShiftSolver::directions(ThreadPool& pool, const Matrix& weight) {
  TRY(solver::check_layer(weight, hessian_.values));
  if (inverse_.empty()) TRY(invert(pool));
  ShiftDirections result;
  for (const InputShift* shift : shifts_) {
    CHECK(shift->values.rows() == weight.cols(), "the shift has the weight's width");
    result.cross.push_back(product(pool, weight, shift->values));
    result.direction.push_back(product(pool, result.cross.back(), inverse_));
  }
  result.lambda = lambda_;
  return result;
}

// E ||(W + a D) x - W x_original||^2 = a^2 tr(D H D^T) - 2 a <D, W S> + const, and D (H + lambda I) = W
// S_found.
double held_out_strength(const ShiftDirections& directions, std::size_t found, std::size_t there) {
  const Matrix& d = directions.direction[found];
  const double curvature = dot(d, directions.cross[found]) - directions.lambda * dot(d, d);
  const double slope = dot(d, directions.cross[there]);
  if (!(curvature > 0) || !std::isfinite(slope)) return 0;
  return std::clamp(slope / curvature, 0.0, 1.0);
}

Matrix shifted_target(const Matrix& weight, const Matrix& direction, double strength) {
  Matrix result = weight;
  for (std::int64_t i = 0; i < result.rows() * result.cols(); ++i) {
    result.data()[i] += static_cast<float>(strength) * direction.data()[i];
  }
  return result;
}

std::vector<float> update_bias(std::span<const float> bias, const Matrix& weight, const Matrix& changed,
                               std::span<const double> input_mean, std::span<const double> deviation_mean) {
  CHECK(static_cast<std::int64_t>(bias.size()) == weight.rows(), "one bias per row");
  std::vector<float> result(bias.size());
  for (std::int64_t r = 0; r < weight.rows(); ++r) {
    double sum = static_cast<double>(bias[static_cast<std::size_t>(r)]);
    for (std::int64_t c = 0; c < weight.cols(); ++c) {
      const auto i = static_cast<std::size_t>(c);
      const auto original = static_cast<double>(weight.at(r, c));
      sum += (original - static_cast<double>(changed.at(r, c))) * input_mean[i];
      if (!deviation_mean.empty()) sum += original * deviation_mean[i];
    }
    result[static_cast<std::size_t>(r)] = static_cast<float>(sum);
  }
  return result;
}

}  // namespace nibble
