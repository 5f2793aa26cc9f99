// SPDX-License-Identifier: Apache-2.0
#include "modify/solver/check_input.h"

#include <fmt/format.h>

#include <cmath>

namespace nibble::solver {

Status check_weight(const Matrix& weight) {
  for (std::int64_t r = 0; r < weight.rows(); ++r) {
    for (std::int64_t c = 0; c < weight.cols(); ++c) {
      if (std::isfinite(weight.at(r, c))) continue;
      return bad_data(
          fmt::format("weight [{}, {}] is {}, a finite number was expected", r, c, weight.at(r, c)),
          "the source checkpoint is damaged, or an earlier modifier overflowed");
    }
  }
  return {};
}

Status check_layer(const Matrix& weight, const Matrix& hessian) {
  CHECK(hessian.rows() == weight.cols() && hessian.cols() == weight.cols(),
        "the Hessian has the weight's width");
  TRY(check_weight(weight));
  for (std::int64_t c = 0; c < hessian.rows(); ++c) {
    if (std::isfinite(hessian.at(c, c)) && hessian.at(c, c) >= 0) continue;
    return bad_data(
        fmt::format("the second moment of input channel {} is {}, expected a number of at least 0", c,
                    hessian.at(c, c)),
        "an activation was NaN or infinite during calibration");
  }
  return {};
}

}  // namespace nibble::solver
