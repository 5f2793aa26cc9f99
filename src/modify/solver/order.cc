// SPDX-License-Identifier: Apache-2.0
#include "modify/solver/order.h"

#include <algorithm>
#include <numeric>

namespace nibble::solver {

std::vector<std::int32_t> natural_order(std::int64_t cols) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(cols));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

std::vector<std::int32_t> diagonal_order(const Matrix& hessian) {
  std::vector<std::int32_t> order = natural_order(hessian.rows());
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int32_t a, std::int32_t b) { return hessian.at(a, a) > hessian.at(b, b); });
  return order;
}

std::vector<std::int32_t> group_order(const Matrix& hessian, std::int64_t group_cols) {
  std::vector<float> largest(static_cast<std::size_t>((hessian.rows() + group_cols - 1) / group_cols));
  const auto group_of = [&](std::int32_t c) { return static_cast<std::size_t>(c / group_cols); };
  for (std::int32_t c = 0; c < hessian.rows(); ++c) {
    largest[group_of(c)] = std::max(largest[group_of(c)], hessian.at(c, c));
  }
  std::vector<std::int32_t> order = natural_order(hessian.rows());
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    const std::size_t group_a = group_of(a), group_b = group_of(b);
    if (group_a == group_b) return hessian.at(a, a) > hessian.at(b, b);
    if (largest[group_a] != largest[group_b]) return largest[group_a] > largest[group_b];
    return group_a < group_b;
  });
  return order;
}

std::vector<std::int32_t> inverse_order(const std::vector<std::int32_t>& order) {
  std::vector<std::int32_t> inverse(order.size());
  for (std::size_t p = 0; p < order.size(); ++p)
    inverse[static_cast<std::size_t>(order[p])] = static_cast<std::int32_t>(p);
  return inverse;
}

Matrix permute_columns(const Matrix& m, const std::vector<std::int32_t>& order) {
  Matrix result(m.rows(), static_cast<std::int64_t>(order.size()));
  for (std::int64_t r = 0; r < m.rows(); ++r) {
    for (std::int64_t p = 0; p < result.cols(); ++p)
      result.at(r, p) = m.at(r, order[static_cast<std::size_t>(p)]);
  }
  return result;
}

}  // namespace nibble::solver
