// SPDX-License-Identifier: Apache-2.0
#include "modify/solver/loss.h"

#include <algorithm>
#include <numeric>

#include "kernels/gemm.h"

namespace nibble::solver {
namespace {
constexpr std::int64_t kLossRows = 64;
}

std::vector<double> row_losses(ThreadPool& pool, const Matrix& a, const Matrix& b, const Matrix& hessian) {
  const std::int64_t cols = a.cols();
  std::vector<double> losses(static_cast<std::size_t>(a.rows()));
  pool.parallel_for(a.rows(), kLossRows, [&](std::int64_t first, std::int64_t last) {
    Matrix e(last - first, cols), image(last - first, cols);
    for (std::int64_t i = 0; i < e.rows() * cols; ++i) {
      e.data()[i] = a.data()[first * cols + i] - (b.empty() ? 0.0f : b.data()[first * cols + i]);
    }
    kernels::gemm_nn(pool, e.rows(), cols, cols, e.data(), cols, hessian.data(), cols, image.data(), cols);
    for (std::int64_t r = 0; r < e.rows(); ++r) {
      double sum = 0;
      for (std::int64_t c = 0; c < cols; ++c) {
        sum += static_cast<double>(e.at(r, c)) * static_cast<double>(image.at(r, c));
      }
      losses[static_cast<std::size_t>(first + r)] = sum;
    }
  });
  return losses;
}

double layer_loss(ThreadPool& pool, const Matrix& a, const Matrix& b, const Matrix& hessian) {
  const std::vector<double> losses = row_losses(pool, a, b, hessian);
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

}  // namespace nibble::solver
