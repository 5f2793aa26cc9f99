// SPDX-License-Identifier: Apache-2.0
// Orders in which a solver visits the columns: position -> column. Ties keep the natural order.
#pragma once

#include <cstdint>
#include <vector>

#include "base/tensor.h"

namespace nibble::solver {

std::vector<std::int32_t> natural_order(std::int64_t cols);

// Columns by falling diagonal of the Hessian.
std::vector<std::int32_t> diagonal_order(const Matrix& hessian);

// Groups by the largest diagonal in them, falling; within a group by falling diagonal. Groups stay together,
// so the quantized weight needs no group index ("group-aware" order of GPTQModel).
std::vector<std::int32_t> group_order(const Matrix& hessian, std::int64_t group_cols);

// column -> position.
std::vector<std::int32_t> inverse_order(const std::vector<std::int32_t>& order);

Matrix permute_columns(const Matrix& m, const std::vector<std::int32_t>& order);

}  // namespace nibble::solver
