// SPDX-License-Identifier: Apache-2.0
#include "modify/solver/factor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "kernels/factor.h"

namespace nibble::solver {
namespace {

constexpr double kLargestFrac = 1e3;
constexpr double kFirstRaise = 1e-4;  // where raising starts when nothing (or nonsense) was asked for
constexpr const char* kNoMoments =
    "its entries are not a matrix of second moments: check the saved statistics";

// a := P (H + lambda I) P^T in fp64.
void fill_permuted(ThreadPool& pool, const Matrix& h, std::span<const std::int32_t> order, double lambda,
                   double* a) {
  const std::int64_t n = h.rows();
  pool.parallel_for(n, 16, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const float* row = h.data() + order[static_cast<std::size_t>(i)] * n;
      for (std::int64_t j = 0; j < n; ++j)
        a[i * n + j] = static_cast<double>(row[order[static_cast<std::size_t>(j)]]);
      a[i * n + i] += lambda;
    }
  });
}

}  // namespace

std::vector<std::int32_t> dead_columns(const Matrix& hessian) {
  std::vector<std::int32_t> dead;
  for (std::int64_t c = 0; c < hessian.rows(); ++c) {
    if (hessian.at(c, c) == 0) dead.push_back(static_cast<std::int32_t>(c));
  }
  return dead;
}

Matrix zero_dead_columns(Matrix weight, const Matrix& hessian) {
  for (const std::int32_t column : dead_columns(hessian)) {
    for (std::int64_t r = 0; r < weight.rows(); ++r) weight.at(r, column) = 0;
  }
  return weight;
}

Matrix without_dead(const Matrix& hessian, double scale, double dead_value) {
  Matrix result = hessian;
  if (scale != 1) {
    for (float& value : result.values()) value = static_cast<float>(static_cast<double>(value) * scale);
  }
  const std::vector<std::int32_t> dead = dead_columns(hessian);
  if (dead.empty()) return result;
  const std::vector<float> live = live_diagonal(result);
  for (const std::int32_t c : dead)
    result.at(c, c) = dead_value == 0 ? live[static_cast<std::size_t>(c)] : static_cast<float>(dead_value);
  return result;
}

std::vector<float> live_diagonal(const Matrix& hessian) {
  std::vector<float> diagonal;
  for (std::int64_t c = 0; c < hessian.rows(); ++c) diagonal.push_back(hessian.at(c, c));
  const std::vector<std::int32_t> dead = dead_columns(hessian);
  const auto live = hessian.rows() - static_cast<std::int64_t>(dead.size());
  const double mean = live == 0 ? 1
                                : damping_lambda(hessian, 1) * static_cast<double>(hessian.rows()) /
                                      static_cast<double>(live);
  for (const std::int32_t c : dead) diagonal[static_cast<std::size_t>(c)] = static_cast<float>(mean);
  return diagonal;
}

double damping_lambda(const Matrix& hessian, double frac) {
  double sum = 0;
  for (std::int64_t c = 0; c < hessian.rows(); ++c) sum += static_cast<double>(hessian.at(c, c));
  return frac * sum / static_cast<double>(hessian.rows());
}

Result<InverseFactor> inverse_factor(ThreadPool& pool, const Matrix& hessian,
                                     std::span<const std::int32_t> order, double dampening_frac) {
  const std::int64_t n = hessian.rows();
  CHECK(hessian.cols() == n && static_cast<std::int64_t>(order.size()) == n, "a square matrix and its order");
  InverseFactor result;
  result.damping.requested_frac = dampening_frac;
  const auto a = std::make_unique_for_overwrite<double[]>(static_cast<std::size_t>(n * n));
  for (double frac = dampening_frac; frac <= kLargestFrac; ++result.damping.raises) {
    result.lambda = damping_lambda(hessian, frac);
    fill_permuted(pool, hessian, order, result.lambda, a.get());
    if (kernels::inverse_factor(pool, n, a.get()).ok()) {
      result.damping.used_frac = frac;
      result.u = Matrix::for_overwrite(n, n);
      pool.parallel_for(n, 16, [&](std::int64_t first, std::int64_t last) {
        std::transform(a.get() + first * n, a.get() + last * n, result.u.row(first).data(),
                       [](double value) { return static_cast<float>(value); });
      });
      return result;
    }
    frac = std::max(frac * 10, kFirstRaise);
  }
  return bad_data(
      fmt::format("the Hessian of {} channels cannot be factored, even with damping {} times its mean "
                  "diagonal",
                  n, kLargestFrac),
      kNoMoments);
}

Result<Matrix> damped_inverse(ThreadPool& pool, const Matrix& hessian, double lambda) {
  const std::int64_t n = hessian.rows();
  const std::vector<float> diagonal = live_diagonal(hessian);
  Matrix inverse = Matrix::for_overwrite(n, n);
  pool.parallel_for(n, 16, [&](std::int64_t first, std::int64_t last) {
    std::copy_n(hessian.data() + first * n, (last - first) * n, inverse.data() + first * n);
    for (std::int64_t i = first; i < last; ++i)
      inverse.at(i, i) =
          static_cast<float>(static_cast<double>(diagonal[static_cast<std::size_t>(i)]) + lambda);
  });
  if (kernels::invert_damped(pool, n, inverse.data(), n).ok()) return inverse;
  return bad_data(
      fmt::format("the Hessian of {} channels is not positive definite with {} on its diagonal", n, lambda),
      kNoMoments);
}

}  // namespace nibble::solver
