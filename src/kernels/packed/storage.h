// SPDX-License-Identifier: Apache-2.0
// What a PackedWeights holds.
#pragma once

#include <array>
#include <vector>

#include "kernels/packed/table.h"
#include "kernels/packed_linear.h"

namespace nibble::kernels {

struct PackedWeights::Storage {
  // Dense: strips [k][16] of `dense` floats. Coded: strips of words (table.h).
  DType dense = DType::kF32;
  bool coded = false;
  CodeKind kind = CodeKind::kInteger;
  int bits = 0;
  std::int64_t group_size = 0;
  std::int64_t groups = 0;
  packed::ScaleType scale_type = packed::ScaleType::kF32;
  std::int64_t strip_bytes = 0;
  std::shared_ptr<std::byte> strips;
  std::shared_ptr<std::byte> scales;  // [strip][group][16]
  std::shared_ptr<std::byte> zeros;   // [strip][group][16]; null: symmetric
  std::array<float, 16> table{};
  std::vector<std::int32_t> order;  // column order[i] of the original stands at i; empty: not moved
  std::vector<float> row_sums;      // integers: sum over groups of float(sum of code - zero) * scale

  std::int64_t scale_bytes() const { return scale_type == packed::ScaleType::kF32 ? 4 : 2; }
  packed::CodeStrip strip(std::int64_t index) const;
  // By index into [strip][group][16].
  float scale(std::int64_t at) const;
  std::int32_t zero(std::int64_t at) const;  // as stored: + 2^(bits - 1)
};

struct PackedAccess {
  static const PackedWeights::Storage& storage(const PackedWeights& weights) { return *weights.storage_; }
  static PackedWeights make(std::int64_t rows, std::int64_t cols, std::size_t bytes,
                            std::shared_ptr<const PackedWeights::Storage> storage);
};

}  // namespace nibble::kernels
