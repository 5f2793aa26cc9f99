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

// Replaces the rows of `right` [rows, n] by right (H + lambda I)^-1.
Status solve_damped(ThreadPool& pool, const Matrix& hessian, double dampening_frac, std::int64_t rows,
                    double* right) {
  const std::int64_t n = hessian.rows();
  const Matrix metric = solver::without_dead(hessian, 1.0, 0.0);
  for (double frac = dampening_frac; frac < 1e3; frac = std::max(frac * 10, 1e-4)) {
    const auto left = to_fp64(metric);
    const double lambda = solver::damping_lambda(metric, frac);
    for (std::int64_t i = 0; i < n; ++i) left[static_cast<std::size_t>(i * n + i)] += lambda;
    if (kernels::solve_symmetric(pool, n, left.get(), rows, right).ok()) return {};
  }
  return bad_data("the Hessian is not positive definite, whatever the damping",
                  "its entries are not a matrix of second moments: check the saved statistics");
}

}  // namespace

Result<std::vector<Matrix>> shift_directions(ThreadPool& pool, const Matrix& weight, const Hessian& hessian,
                                             std::span<const InputShift* const> shifts,
                                             double dampening_frac) {
  TRY(solver::check_layer(weight, hessian.values));
  const std::int64_t n = weight.cols();
  const bool by_rows = weight.rows() <= n;  // solve W S, else S
  const std::int64_t rows = by_rows ? weight.rows() : n;
  const auto count = static_cast<std::int64_t>(shifts.size());
  const auto right = std::make_unique_for_overwrite<double[]>(static_cast<std::size_t>(count * rows * n));
  for (std::int64_t k = 0; k < count; ++k) {
    const InputShift& shift = *shifts[static_cast<std::size_t>(k)];
    CHECK(shift.values.rows() == n, "the shift has the weight's width");
    const Matrix side = by_rows ? product(pool, weight, shift.values) : shift.values;
    std::copy_n(side.data(), rows * n, right.get() + k * rows * n);
  }
  TRY(solve_damped(pool, hessian.values, dampening_frac, count * rows, right.get()));
  std::vector<Matrix> directions;
  for (std::int64_t k = 0; k < count; ++k) {
    Matrix solved(rows, n);
    for (std::int64_t i = 0; i < rows * n; ++i)
      solved.data()[i] = static_cast<float>(right[static_cast<std::size_t>(k * rows * n + i)]);
    directions.push_back(by_rows ? std::move(solved) : product(pool, weight, solved));
  }
  return directions;
}

Result<Matrix> shift_direction(ThreadPool& pool, const Matrix& weight, const Hessian& hessian,
                               const InputShift& shift, double dampening_frac) {
  const InputShift* const only = &shift;
  TRY_ASSIGN(std::vector<Matrix> directions,
             shift_directions(pool, weight, hessian, std::span(&only, 1), dampening_frac));
  return std::move(directions[0]);
}

// E ||(W + a D) x - W x_original||^2 = a^2 tr(D H D^T) - 2 a <D, W S> + const.
double held_out_strength(ThreadPool& pool, const Matrix& weight, const Matrix& direction,
                         const Hessian& held_out_hessian, const InputShift& held_out_shift) {
  const double curvature = dot(direction, product(pool, direction, held_out_hessian.values));
  const double slope = dot(direction, product(pool, weight, held_out_shift.values));
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
