// SPDX-License-Identifier: Apache-2.0
#include "modify/solver/admm_mask.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "kernels/gemm.h"
#include "modify/solver/factor.h"

namespace nibble::solver {
namespace {

Matrix scaled_columns(ThreadPool& pool, const Matrix& m, const std::vector<float>& factor) {
  Matrix result = Matrix::for_overwrite(m.rows(), m.cols());
  pool.parallel_for(m.rows(), 16, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r)
      std::transform(m.row(r).begin(), m.row(r).end(), factor.begin(), result.row(r).begin(),
                     std::multiplies());
  });
  return result;
}

Matrix product(ThreadPool& pool, const Matrix& a, const Matrix& b) {
  Matrix c = Matrix::for_overwrite(a.rows(), b.cols());
  kernels::gemm_nn(pool, a.rows(), b.cols(), a.cols(), a.data(), a.cols(), b.data(), b.cols(), c.data(),
                   c.cols());
  return c;
}

// From rung to rung, so that the last one has last_rho.
double growth_of(const AdmmOptions& options) {
  const int rungs = (options.iterations + options.iterations_per_rung - 1) / options.iterations_per_rung;
  return std::pow(options.last_rho / options.first_rho, 1.0 / std::max(rungs - 1, 1));
}

class Admm {
 public:
  Admm(ThreadPool& pool, const Matrix& weight, const Matrix& normal, const Matrix& start,
       const PrunePattern& pattern, const Matrix* allowed)
      : pool_(pool),
        pattern_(pattern),
        allowed_(allowed),
        pull_(product(pool, weight, normal)),
        dual_(product(pool, start, normal)),
        dense_(Matrix::for_overwrite(weight.rows(), weight.cols())),
        right_(Matrix::for_overwrite(weight.rows(), weight.cols())) {
    each_part([&](std::int64_t i) { dual_.data()[i] = pull_.data()[i] - dual_.data()[i]; });
  }

  // The first right-hand side under a new rho; settle() leaves the next ones.
  void aim(float rho, const SparseLayer& layer) {
    each_part([&](std::int64_t i) {
      right_.data()[i] = pull_.data()[i] - dual_.data()[i] + rho * layer.weight.data()[i];
    });
  }

  void iterate(const Matrix& inverse, float rho, SparseLayer& layer) {
    const std::int64_t cols = dense_.cols();
    kernels::gemm_nn(pool_, dense_.rows(), cols, cols, right_.data(), cols, inverse.data(), cols,
                     dense_.data(), cols);
    if (pattern_.is_structured()) {
      each_row([&](std::int64_t r) {
        score(r, rho, layer);
        keep_largest_in_row(right_.row(r), pattern_.zeros, pattern_.group, layer.keep.row(r));
        settle(r, rho, layer);
      });
    } else {
      each_row([&](std::int64_t r) { score(r, rho, layer); });
      layer.keep = keep_by_scores(pool_, right_, pattern_);
      each_row([&](std::int64_t r) { settle(r, rho, layer); });
    }
  }

 private:
  // The candidate is the new weight, its score goes to right_. Scores of forbidden weights lie below all
  // others.
  void score(std::int64_t r, float rho, SparseLayer& layer) {
    const float* const dense = dense_.row(r).data();
    const float* const dual = dual_.row(r).data();
    float* const weight = layer.weight.row(r).data();
    float* const score = right_.row(r).data();
    for (std::int64_t c = 0; c < dense_.cols(); ++c) {
      weight[c] = dense[c] + dual[c] / rho;
      score[c] = weight[c] * weight[c] + std::numeric_limits<float>::min();
    }
    if (allowed_ == nullptr) return;
    for (std::int64_t c = 0; c < dense_.cols(); ++c) {
      if (allowed_->at(r, c) == 0) score[c] = 0;
    }
  }

  void settle(std::int64_t r, float rho, SparseLayer& layer) {
    float* const keep = layer.keep.row(r).data();
    if (allowed_ != nullptr) {
      for (std::int64_t c = 0; c < dense_.cols(); ++c) keep[c] *= allowed_->at(r, c);
    }
    const float* const dense = dense_.row(r).data();
    const float* const pull = pull_.row(r).data();
    float* const weight = layer.weight.row(r).data();
    float* const dual = dual_.row(r).data();
    float* const right = right_.row(r).data();
    for (std::int64_t c = 0; c < dense_.cols(); ++c) {
      weight[c] *= keep[c];
      dual[c] += rho * (dense[c] - weight[c]);
      right[c] = pull[c] - dual[c] + rho * weight[c];
    }
  }

  template <class Body>
  void each_part(const Body& body) {
    pool_.parallel_for(dense_.rows() * dense_.cols(), 1 << 15, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) body(i);
    });
  }

  template <class Body>
  void each_row(const Body& body) {
    pool_.parallel_for(dense_.rows(), 16, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t r = first; r < last; ++r) body(r);
    });
  }

  ThreadPool& pool_;
  const PrunePattern& pattern_;
  const Matrix* allowed_;
  Matrix pull_, dual_, dense_, right_;
};

}  // namespace

Result<SparseLayer> admm_mask(ThreadPool& pool, const Matrix& weight, const Matrix& metric,
                              const Matrix& start, const PrunePattern& pattern, const Matrix* allowed,
                              const AdmmOptions& options) {
  const std::int64_t n = metric.rows();
  std::vector<float> scale(static_cast<std::size_t>(n)), inverse_scale(scale.size());
  for (std::size_t c = 0; c < scale.size(); ++c) {
    const float diagonal = metric.at(static_cast<std::int64_t>(c), static_cast<std::int64_t>(c));
    scale[c] = std::sqrt(diagonal);
    inverse_scale[c] = 1 / scale[c];
  }
  Matrix normal = scaled_columns(pool, metric, inverse_scale);
  pool.parallel_for(n, 16, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      for (float& value : normal.row(r)) value *= inverse_scale[static_cast<std::size_t>(r)];
    }
  });
  SparseLayer layer{.weight = scaled_columns(pool, start, scale), .keep = Matrix(start.rows(), n)};
  Admm admm(pool, scaled_columns(pool, weight, scale), normal, layer.weight, pattern, allowed);
  const double growth = growth_of(options);
  double rho = options.first_rho;
  for (int done = 0; done < options.iterations; rho *= growth) {
    TRY_ASSIGN(const Matrix inverse, damped_inverse(pool, normal, rho));
    admm.aim(static_cast<float>(rho), layer);
    for (int i = 0; i < options.iterations_per_rung && done < options.iterations; ++i, ++done) {
      admm.iterate(inverse, static_cast<float>(rho), layer);
    }
  }
  layer.weight = scaled_columns(pool, layer.weight, inverse_scale);
  return layer;
}

}  // namespace nibble::solver
