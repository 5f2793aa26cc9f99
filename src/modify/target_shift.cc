// SPDX-License-Identifier: Apache-2.0
#include "modify/target_shift.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <numeric>

#include "kernels/factor.h"
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

constexpr std::int64_t kRows = 32;  // of a task that converts

std::unique_ptr<double[]> to_fp64(ThreadPool& pool, const Matrix& m) {
  const std::int64_t cols = m.cols();
  auto values = std::make_unique_for_overwrite<double[]>(static_cast<std::size_t>(m.rows() * cols));
  pool.parallel_for(m.rows(), kRows, [&](std::int64_t first, std::int64_t last) {
    std::copy_n(m.data() + first * cols, (last - first) * cols, values.get() + first * cols);
  });
  return values;
}

void to_fp32(ThreadPool& pool, const double* values, Matrix& m) {
  const std::int64_t cols = m.cols();
  pool.parallel_for(m.rows(), kRows, [&](std::int64_t first, std::int64_t last) {
    std::transform(values + first * cols, values + last * cols, m.data() + first * cols,
                   [](double value) { return static_cast<float>(value); });
  });
}

// L L^T = H + lambda I. At 11,000 columns a matrix in fp64 is a gigabyte: there is one, and the sides are
// solved one after the other.
struct DampedFactor {
  std::unique_ptr<double[]> lower;
  double lambda = 0;
};

Result<DampedFactor> factor_damped(ThreadPool& pool, const Matrix& hessian, double dampening_frac) {
  const std::int64_t n = hessian.rows();
  const std::vector<float> diagonal = solver::live_diagonal(hessian);
  const double mean = std::accumulate(diagonal.begin(), diagonal.end(), 0.0) / static_cast<double>(n);
  for (double frac = dampening_frac; frac < 1e3; frac = std::max(frac * 10, 1e-4)) {
    DampedFactor factor{to_fp64(pool, hessian), frac * mean};
    for (std::int64_t i = 0; i < n; ++i) {
      factor.lower[static_cast<std::size_t>(i * n + i)] =
          static_cast<double>(diagonal[static_cast<std::size_t>(i)]) + factor.lambda;
    }
    if (kernels::cholesky(pool, n, factor.lower.get()).ok()) return factor;
  }
  return bad_data("the Hessian is not positive definite, whatever the damping",
                  "its entries are not a matrix of second moments: check the saved statistics");
}

// Replaces each of `sides` by side (H + lambda I)^-1; lambda.
Result<double> solve_all(ThreadPool& pool, const Matrix& hessian, double dampening_frac,
                         std::vector<Matrix>& sides) {
  TRY_ASSIGN(const DampedFactor factor, factor_damped(pool, hessian, dampening_frac));
  for (Matrix& side : sides) {
    const auto right = to_fp64(pool, side);
    kernels::solve_factored(pool, hessian.rows(), factor.lower.get(), side.rows(), right.get());
    to_fp32(pool, right.get(), side);
  }
  return factor.lambda;
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
