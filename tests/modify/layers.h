// SPDX-License-Identifier: Apache-2.0
// Layers for solver tests: random weights, correlated inputs with a few loud channels, and their Hessian.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/rng.h"
#include "base/tensor.h"
#include "base/thread_pool.h"
#include "calibrate/hessian.h"

namespace nibble::testing {

inline Matrix random_matrix(std::int64_t rows, std::int64_t cols, std::uint64_t seed, double scale = 1) {
  Rng rng(seed);
  Matrix m(rows, cols);
  for (float& value : m.values()) value = static_cast<float>(scale * rng.normal());
  return m;
}

// Neighbouring channels correlate with `rho`; channel gains are log-normal; `mean` spreads their means.
inline Matrix correlated_inputs(std::int64_t tokens, std::int64_t cols, double rho, std::uint64_t seed,
                                double mean = 0) {
  Rng rng(seed);
  std::vector<double> gain(static_cast<std::size_t>(cols)), offset(static_cast<std::size_t>(cols));
  for (double& g : gain) g = std::exp(0.7 * rng.normal());
  for (double& m : offset) m = mean * rng.normal();
  Matrix x(tokens, cols);
  for (std::int64_t t = 0; t < tokens; ++t) {
    double state = rng.normal();
    for (std::int64_t c = 0; c < cols; ++c) {
      const auto i = static_cast<std::size_t>(c);
      x.at(t, c) = static_cast<float>(gain[i] * (state + offset[i]));
      state = rho * state + std::sqrt(1 - rho * rho) * rng.normal();
    }
  }
  return x;
}

// Rows of different size and a few heavy entries, as trained weights have them.
inline Matrix weight_like(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  Rng rng(seed);
  Matrix w(rows, cols);
  for (std::int64_t r = 0; r < rows; ++r) {
    const double size = 0.05 * std::exp(0.5 * rng.normal());
    for (float& value : w.row(r)) {
      value = static_cast<float>(size * rng.normal() * (rng.uniform() < 0.003 ? 5 : 1));
    }
  }
  return w;
}

inline Hessian hessian_of(ThreadPool& pool, const Matrix& x, bool centred = false) {
  HessianAccumulator sum(x.cols());
  sum.add(pool, x.data(), x.rows(), x.cols(), 1);
  return sum.finish(pool, centred).value();
}

// (a - b) (H + lambda I) (a - b)^T of every row, in fp64.
inline std::vector<double> row_losses(const Matrix& a, const Matrix& b, const Matrix& h, double lambda = 0) {
  std::vector<double> losses;
  std::vector<double> e(static_cast<std::size_t>(a.cols()));
  for (std::int64_t r = 0; r < a.rows(); ++r) {
    for (std::int64_t c = 0; c < a.cols(); ++c) {
      e[static_cast<std::size_t>(c)] = static_cast<double>(a.at(r, c)) - static_cast<double>(b.at(r, c));
    }
    double loss = 0;
    for (std::int64_t i = 0; i < a.cols(); ++i) {
      double sum = lambda * e[static_cast<std::size_t>(i)];
      for (std::int64_t j = 0; j < a.cols(); ++j) {
        sum += static_cast<double>(h.at(i, j)) * e[static_cast<std::size_t>(j)];
      }
      loss += sum * e[static_cast<std::size_t>(i)];
    }
    losses.push_back(loss);
  }
  return losses;
}

inline double total(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

inline double layer_loss(const Matrix& a, const Matrix& b, const Matrix& h) {
  return total(row_losses(a, b, h));
}

inline bool same_bits(const Matrix& a, const Matrix& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::equal(a.values().begin(), a.values().end(), b.values().begin());
}

}  // namespace nibble::testing
