// SPDX-License-Identifier: Apache-2.0
#include "modify/solver/loss.h"

#include <algorithm>
#include <numeric>

#include "kernels/gemm.h"
#include "modify/solver/task_rows.h"

namespace nibble::solver {
namespace {

constexpr std::int64_t kColumns = 192;

// image = e T with T H's blocks on the diagonal and twice those above it: e T e^T = e H e^T for half the
// work.
void multiply_upper(ThreadPool& pool, const Matrix& e, const Matrix& hessian, Matrix& image) {
  const std::int64_t n = hessian.cols(), rows = e.rows();
  for (std::int64_t left = 0; left < n; left += kColumns) {
    const std::int64_t width = std::min(kColumns, n - left);
    float* out = image.data() + left;
    if (left > 0) {
      kernels::gemm_nn(pool, rows, width, left, e.data(), n, hessian.data() + left, n, out, n);
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < width; ++c) out[r * n + c] *= 2;
      }
    }
    kernels::gemm_nn(pool, rows, width, width, e.data() + left, n, hessian.data() + left * n + left, n, out,
                     n, left > 0);
  }
}
}  // namespace

std::vector<double> row_losses(ThreadPool& pool, const Matrix& a, const Matrix& b, const Matrix& hessian) {
  const std::int64_t cols = a.cols();
  std::vector<double> losses(static_cast<std::size_t>(a.rows()));
  pool.parallel_for(a.rows(), task_rows(pool, a.rows()), [&](std::int64_t first, std::int64_t last) {
    Matrix e = Matrix::for_overwrite(last - first, cols), image = Matrix::for_overwrite(last - first, cols);
    for (std::int64_t i = 0; i < e.rows() * cols; ++i) {
      e.data()[i] = a.data()[first * cols + i] - (b.empty() ? 0.0f : b.data()[first * cols + i]);
    }
    multiply_upper(pool, e, hessian, image);
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
