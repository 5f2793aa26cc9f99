// SPDX-License-Identifier: Apache-2.0
#include "modify/target_shift.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "kernels/factor.h"
#include "kernels/gemm.h"
#include "modify/solver/check_input.h"
#include "modify/solver/factor.h"

namespace nibble {
namespace {

Matrix product(ThreadPool& pool, const Matrix& a, const Matrix& b) {
  Matrix c(a.rows(), b.cols());
  kernels::gemm_nn(pool, a.rows(), b.cols(), a.cols(), a.data(), a.cols(), b.data(), b.cols(), c.data(),
                   c.cols());
  return c;
}

double dot(const Matrix& a, const Matrix& b) {
  double sum = 0;
  for (std::int64_t i = 0; i < a.rows() * a.cols(); ++i) {
    sum += static_cast<double>(a.data()[i]) * static_cast<double>(b.data()[i]);
  }
  return sum;
}

std::unique_ptr<double[]> to_fp64(const Matrix& m) {
  const std::int64_t count = m.rows() * m.cols();
  auto values = std::make_unique_for_overwrite<double[]>(static_cast<std::size_t>(count));
  std::copy_n(m.data(), count, values.get());
  return values;
}

// Replaces the rows of `right` [rows, n] by right (H + lambda I)^-1; lambda.
Result<double> solve_damped(ThreadPool& pool, const Matrix& hessian, double dampening_frac, std::int64_t rows,
                            double* right) {
  const std::int64_t n = hessian.rows();
  const Matrix metric = solver::without_dead(hessian, 1.0, 0.0);
  for (double frac = dampening_frac; frac < 1e3; frac = std::max(frac * 10, 1e-4)) {
    const auto left = to_fp64(metric);
    const double lambda = solver::damping_lambda(metric, frac);
    for (std::int64_t i = 0; i < n; ++i) left[static_cast<std::size_t>(i * n + i)] += lambda;
    if (kernels::solve_symmetric(pool, n, left.get(), rows, right).ok()) return lambda;
  }
  return bad_data("the Hessian is not positive definite, whatever the damping",
                  "its entries are not a matrix of second moments: check the saved statistics");
}

// The same for several matrices of one width.
Result<double> solve_all(ThreadPool& pool, const Matrix& hessian, double dampening_frac,
                         std::vector<Matrix>& sides) {
  const std::int64_t n = hessian.rows();
  std::int64_t rows = 0;
  for (const Matrix& side : sides) rows += side.rows();
  const auto right = std::make_unique_for_overwrite<double[]>(static_cast<std::size_t>(rows * n));
  double* at = right.get();
  for (const Matrix& side : sides) at = std::ranges::copy(side.values(), at).out;
  TRY_ASSIGN(const double lambda, solve_damped(pool, hessian, dampening_frac, rows, right.get()));
  const double* from = right.get();
  for (Matrix& side : sides) {
    for (float& value : side.values()) value = static_cast<float>(*from++);
  }
  return lambda;
}

}  // namespace

ShiftSolver::ShiftSolver(const Hessian& hessian, std::vector<const InputShift*> shifts, double dampening_frac,
                         std::int64_t rows)
    : hessian_(hessian),
      shifts_(std::move(shifts)),
      dampening_frac_(dampening_frac),
      is_shared_(rows > hessian.cols()) {}

Result<ShiftDirections> ShiftSolver::directions(ThreadPool& pool, const Matrix& weight) {
  TRY(solver::check_layer(weight, hessian_.values));
  ShiftDirections result;
  for (const InputShift* shift : shifts_) {
    CHECK(shift->values.rows() == weight.cols(), "the shift has the weight's width");
    result.cross.push_back(product(pool, weight, shift->values));
  }
  if (!is_shared_) {
    result.direction = result.cross;
    TRY_ASSIGN(result.lambda, solve_all(pool, hessian_.values, dampening_frac_, result.direction));
    return result;
  }
  if (solved_.empty()) {
    for (const InputShift* shift : shifts_) solved_.push_back(shift->values);
    TRY_ASSIGN(lambda_, solve_all(pool, hessian_.values, dampening_frac_, solved_));
  }
  for (const Matrix& solved : solved_) result.direction.push_back(product(pool, weight, solved));
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
