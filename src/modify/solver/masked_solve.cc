// SPDX-License-Identifier: Apache-2.0
#include "modify/solver/masked_solve.h"

#include <vector>

#include "kernels/gemm.h"
#include "modify/solver/task_rows.h"

namespace nibble::solver {
namespace {

// A residual this small against the first one is rounding.
constexpr double kConverged = 1e-12;

class RowBlock {
 public:
  RowBlock(ThreadPool& pool, const Matrix& metric, std::int64_t rows)
      : pool_(pool),
        metric_(metric),
        rows_(rows),
        cols_(metric.rows()),
        residual_(rows, cols_),
        image_(rows, cols_),
        direction_(rows, cols_),
        energy_(static_cast<std::size_t>(rows)),
        first_energy_(energy_.size()) {}

  // `weight`, `keep`, `solution`: the rows of the block.
  void run(const float* weight, const float* keep, int iterations, float* solution) {
    keep_ = keep;
    solution_ = solution;
    for (std::int64_t i = 0; i < rows_ * cols_; ++i) {
      solution[i] *= keep[i];
      direction_.data()[i] = weight[i] - solution[i];
    }
    multiply(direction_, residual_);
    start();
    for (int i = 0; i < iterations; ++i) {
      multiply(direction_, image_);
      if (!step()) return;
    }
  }

 private:
  // out = m M on the kept entries.
  void multiply(const Matrix& m, Matrix& out) {
    kernels::gemm_nn(pool_, rows_, cols_, cols_, m.data(), cols_, metric_.data(), cols_, out.data(), cols_);
    for (std::int64_t i = 0; i < rows_ * cols_; ++i) out.data()[i] *= keep_[i];
  }

  float preconditioned(std::int64_t r, std::int64_t c) const { return residual_.at(r, c) / metric_.at(c, c); }

  void start() {
    for (std::int64_t r = 0; r < rows_; ++r) {
      double energy = 0;
      for (std::int64_t c = 0; c < cols_; ++c) {
        const float z = preconditioned(r, c);
        direction_.at(r, c) = z;
        energy += static_cast<double>(z) * static_cast<double>(residual_.at(r, c));
      }
      energy_[static_cast<std::size_t>(r)] = energy;
    }
    first_energy_ = energy_;
  }

  // One conjugate gradient step of every row that has not converged; false when all have.
  bool step() {
    bool active = false;
    for (std::int64_t r = 0; r < rows_; ++r) {
      double& energy = energy_[static_cast<std::size_t>(r)];
      double curvature = 0;
      for (std::int64_t c = 0; c < cols_; ++c) {
        curvature += static_cast<double>(direction_.at(r, c)) * static_cast<double>(image_.at(r, c));
      }
      if (energy <= kConverged * first_energy_[static_cast<std::size_t>(r)] || !(curvature > 0)) continue;
      active = true;
      const auto length = static_cast<float>(energy / curvature);
      float* solution = solution_ + r * cols_;
      double next = 0;
      for (std::int64_t c = 0; c < cols_; ++c) {
        solution[c] += length * direction_.at(r, c);
        residual_.at(r, c) -= length * image_.at(r, c);
        next += static_cast<double>(residual_.at(r, c)) * static_cast<double>(preconditioned(r, c));
      }
      const auto turn = static_cast<float>(next / energy);
      for (std::int64_t c = 0; c < cols_; ++c) {
        direction_.at(r, c) = preconditioned(r, c) + turn * direction_.at(r, c);
      }
      energy = next;
    }
    return active;
  }

  ThreadPool& pool_;
  const Matrix& metric_;
  std::int64_t rows_, cols_;
  const float* keep_ = nullptr;
  float* solution_ = nullptr;
  Matrix residual_, image_, direction_;
  std::vector<double> energy_, first_energy_;
};

}  // namespace

void masked_solve(ThreadPool& pool, const Matrix& weight, const Matrix& metric, const Matrix& keep,
                  int iterations, Matrix& solution) {
  const std::int64_t cols = weight.cols();
  pool.parallel_for(weight.rows(), task_rows(pool, weight.rows()),
                    [&](std::int64_t first, std::int64_t last) {
                      RowBlock(pool, metric, last - first)
                          .run(weight.data() + first * cols, keep.data() + first * cols, iterations,
                               solution.data() + first * cols);
                    });
}

}  // namespace nibble::solver
