// SPDX-License-Identifier: Apache-2.0
// Layer losses measured with the Hessian: with H the mean over tokens, (a - b) H (a - b)^T is the squared
// difference of the outputs per token.
#pragma once

#include <vector>

#include "base/tensor.h"
#include "base/thread_pool.h"

namespace nibble::solver {

// For every row r: (a_r - b_r) H (a_r - b_r)^T; b may be empty (zero).
std::vector<double> row_losses(ThreadPool& pool, const Matrix& a, const Matrix& b, const Matrix& hessian);
double layer_loss(ThreadPool& pool, const Matrix& a, const Matrix& b, const Matrix& hessian);

}  // namespace nibble::solver
