// SPDX-License-Identifier: Apache-2.0
#include "modify/solver/admm_mask.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/gemm.h"
#include "modify/solver/factor.h"
#include "modify/solver/order.h"

namespace nibble::solver {
namespace {

Matrix scaled_columns(const Matrix& m, const std::vector<float>& factor) {
  Matrix result = m;
  for (std::int64_t r = 0; r < m.rows(); ++r) {
    for (std::int64_t c = 0; c < m.cols(); ++c) result.at(r, c) *= factor[static_cast<std::size_t>(c)];
  }
  return result;
}

Matrix product(ThreadPool& pool, const Matrix& a, const Matrix& b) {
  Matrix c = Matrix::for_overwrite(a.rows(), b.cols());
  kernels::gemm_nn(pool, a.rows(), b.cols(), a.cols(), a.data(), a.cols(), b.data(), b.cols(), c.data(),
                   c.cols());
  return c;
}

// (N + rho I)^-1 = U^T U. Rows of U from k on have nothing left of column k: a third of the whole product.
Result<Matrix> shifted_inverse(ThreadPool& pool, const Matrix& normal, double rho) {
  constexpr std::int64_t kRows = 256;
  const std::int64_t n = normal.rows();
  TRY_ASSIGN(const InverseFactor factor, inverse_factor(pool, normal, natural_order(n), rho));
  Matrix inverse = Matrix::for_overwrite(n, n);
  for (std::int64_t k = 0; k < n; k += kRows) {
    const std::int64_t corner = k * n + k;
    kernels::syrk_tn_upper(pool, n - k, std::min(kRows, n - k), factor.u.data() + corner, n, 1.0f,
                           inverse.data() + corner, n, k > 0);
  }
  kernels::mirror_upper(pool, n, inverse.data(), n);
  return inverse;
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

  void iterate(const Matrix& inverse, double rho_value, SparseLayer& layer) {
    const auto rho = static_cast<float>(rho_value);
    const std::int64_t cols = dense_.cols();
    each_part([&](std::int64_t i) {
      right_.data()[i] = pull_.data()[i] - dual_.data()[i] + rho * layer.weight.data()[i];
    });
    kernels::gemm_nn(pool_, dense_.rows(), cols, cols, right_.data(), cols, inverse.data(), cols,
                     dense_.data(), cols);
    each_part([&](std::int64_t i) {
      const float candidate = dense_.data()[i] + dual_.data()[i] / rho;
      layer.weight.data()[i] = candidate;
      // Scores of forbidden weights lie below all others.
      const bool free = allowed_ == nullptr || allowed_->data()[i] != 0;
      right_.data()[i] = free ? candidate * candidate + std::numeric_limits<float>::min() : 0.0f;
    });
    layer.keep = keep_by_scores(pool_, right_, pattern_);
    each_part([&](std::int64_t i) {
      if (allowed_ != nullptr) layer.keep.data()[i] *= allowed_->data()[i];
      layer.weight.data()[i] *= layer.keep.data()[i];
      dual_.data()[i] += rho * (dense_.data()[i] - layer.weight.data()[i]);
    });
  }

 private:
  template <class Body>
  void each_part(const Body& body) {
    pool_.parallel_for(dense_.rows() * dense_.cols(), 1 << 15, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) body(i);
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
  Matrix normal = scaled_columns(metric, inverse_scale);
  for (std::int64_t r = 0; r < n; ++r) {
    for (float& value : normal.row(r)) value *= inverse_scale[static_cast<std::size_t>(r)];
  }
  SparseLayer layer{.weight = scaled_columns(start, scale), .keep = {}};
  Admm admm(pool, scaled_columns(weight, scale), normal, layer.weight, pattern, allowed);
  const double growth = growth_of(options);
  double rho = options.first_rho;
  for (int done = 0; done < options.iterations; rho *= growth) {
    TRY_ASSIGN(const Matrix inverse, shifted_inverse(pool, normal, rho));
    for (int i = 0; i < options.iterations_per_rung && done < options.iterations; ++i, ++done) {
      admm.iterate(inverse, rho, layer);
    }
  }
  layer.weight = scaled_columns(layer.weight, inverse_scale);
  return layer;
}

}  // namespace nibble::solver
