// SPDX-License-Identifier: Apache-2.0
// Magnitude pruning: masks by |w| alone.
#pragma once

#include <memory>
#include <string_view>

#include "base/error.h"
#include "base/tensor.h"
#include "base/thread_pool.h"

namespace nibble {

// `mask_structure` is "unstructured" or "0:0", "N:M" (its own sparsity), "filter" (whole rows), "channel"
// (whole columns) or "block_R,C" (blocks of R outputs and C inputs, by their mean magnitude). The number of
// pruned units is the rounded share `sparsity` of all.
Result<Matrix> magnitude_mask(ThreadPool& pool, const Matrix& weight, std::string_view mask_structure,
                              double sparsity);

// One threshold for many weights that need not be in memory together: add() all, next_pass(), add() all,
// next_pass(); then mask() each in the same order.
class GlobalMagnitude {
 public:
  // `count` weights in all.
  GlobalMagnitude(std::int64_t count, double sparsity);
  ~GlobalMagnitude();
  void add(ThreadPool& pool, const Matrix& weight);
  void next_pass();
  Matrix mask(const Matrix& weight);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nibble
