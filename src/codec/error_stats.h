// SPDX-License-Identifier: Apache-2.0
// How far a compressed weight is from the original: sums in fp64, row by row, so the figures do not depend on
// how rows are shared out over threads.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/quantize_rows.h"

namespace nibble {

// Sums of one row.
struct RowErrors {
  kernels::ErrorSums sums;
  std::int64_t count = 0;

  // `original` holds stored.size() values of the type.
  void add(DType type, const void* original, std::span<const float> stored);
};

class ErrorStats {
 public:
  void add(const RowErrors& row);
  void add(std::span<const float> original, std::span<const float> stored);

  std::int64_t count() const { return total_.count; }
  // 10 log10(signal / noise): infinite without noise, minus infinity with noise alone, NaN for nothing.
  double sqnr_db() const;
  double relative_error() const;  // |original - stored| / |original|, Frobenius
  double mse() const;
  double max_error() const { return total_.sums.max_error; }

 private:
  RowErrors total_;
};

}  // namespace nibble
