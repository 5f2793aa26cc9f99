// SPDX-License-Identifier: Apache-2.0
// What every solver demands of its input; NaN and infinity are found here, before they spread.
#pragma once

#include "base/error.h"
#include "base/tensor.h"

namespace nibble::solver {

Status check_weight(const Matrix& weight);
// Also that the Hessian is square, of the weight's width, and finite.
Status check_layer(const Matrix& weight, const Matrix& hessian);

}  // namespace nibble::solver
