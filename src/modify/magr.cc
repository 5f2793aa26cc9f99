// SPDX-License-Identifier: Apache-2.0
#include "modify/magr.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/gemm.h"

namespace nibble {
namespace {

constexpr std::int64_t kRows = 64;

// Largest eigenvalue by power iteration; a margin of a tenth keeps the steps contracting.
double step_length(const Matrix& metric) {
  const std::int64_t n = metric.rows();
  std::vector<double> v(static_cast<std::size_t>(n), 1.0), next(v.size());
  double eigenvalue = 0;
  for (int iteration = 0; iteration < 30; ++iteration) {
    double norm = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      double sum = 0;
      for (std::int64_t j = 0; j < n; ++j)
        sum += static_cast<double>(metric.at(i, j)) * v[static_cast<std::size_t>(j)];
      next[static_cast<std::size_t>(i)] = sum;
      norm += sum * sum;
    }
    eigenvalue = std::sqrt(norm);
    if (eigenvalue == 0) return 1;
    for (double& x : next) x /= eigenvalue;
    std::swap(v, next);
  }
  return 1 / (1.1 * eigenvalue);
}

double mean_diagonal(const Matrix& metric) {
  double sum = 0;
  for (std::int64_t c = 0; c < metric.rows(); ++c) sum += static_cast<double>(metric.at(c, c));
  return sum / static_cast<double>(metric.rows());
}

}  // namespace

// With clipping level theta, sum max(|v| - theta, 0) = threshold (Michelot's active-set iteration); a vector
// whose l1 norm is below the threshold vanishes.
void shrink_peaks(std::span<float> v, double threshold) {
  double sum = 0;
  for (const float x : v) sum += std::fabs(static_cast<double>(x));
  if (sum <= threshold) {
    std::ranges::fill(v, 0.0f);
    return;
  }
  double theta = (sum - threshold) / static_cast<double>(v.size());
  for (;;) {
    double active_sum = 0;
    std::size_t active = 0;
    for (const float x : v) {
      const double size = std::fabs(static_cast<double>(x));
      if (size > theta) active_sum += size, ++active;
    }
    const double next = active == 0 ? theta : (active_sum - threshold) / static_cast<double>(active);
    if (!(next > theta)) break;
    theta = next;
  }
  const auto level = static_cast<float>(theta);
  for (float& x : v) x = std::clamp(x, -level, level);
}

Matrix reduce_magnitudes(ThreadPool& pool, const Matrix& weight, const Matrix& metric,
                         const solver::Units& units, const MagrOptions& options) {
  const std::int64_t cols = weight.cols();
  const double step = step_length(metric);
  const double threshold = options.strength * mean_diagonal(metric) * step;
  Matrix result = weight;
  pool.parallel_for(weight.rows(), kRows, [&](std::int64_t first, std::int64_t last) {
    Matrix e(last - first, cols), gradient(last - first, cols);
    for (int iteration = 0; iteration < options.iterations; ++iteration) {
      for (std::int64_t i = 0; i < e.rows() * cols; ++i) {
        e.data()[i] = result.data()[first * cols + i] - weight.data()[first * cols + i];
      }
      kernels::gemm_nn(pool, e.rows(), cols, cols, e.data(), cols, metric.data(), cols, gradient.data(),
                       cols);
      for (std::int64_t r = 0; r < e.rows(); ++r) {
        const std::span<float> v = result.row(first + r);
        for (std::int64_t c = 0; c < cols; ++c) {
          v[static_cast<std::size_t>(c)] -= static_cast<float>(step) * gradient.at(r, c);
        }
        for (std::int64_t c = 0; c < cols; c += units.unit_cols) {
          shrink_peaks(v.subspan(static_cast<std::size_t>(c),
                                 static_cast<std::size_t>(std::min(units.unit_cols, cols - c))),
                       threshold);
        }
      }
    }
  });
  return result;
}

}  // namespace nibble
