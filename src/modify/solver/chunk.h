// SPDX-License-Identifier: Apache-2.0
// A chunk of rows on its way through a column solver: transposed into panels of lanes, columns in sweep
// order. Rows never influence each other, so chunks are the unit of parallel work and the result does not
// depend on their number.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/tensor.h"
#include "base/thread_pool.h"
#include "modify/solver/grid.h"
#include "modify/solver/lanes/lanes.h"

namespace nibble::solver {

inline constexpr std::int64_t kChunkRows = 64;
inline constexpr int kPanels = static_cast<int>(kChunkRows) / kLanes;

// An fp32 array of [positions][kChunkRows].
class Columns {
 public:
  Columns() = default;
  explicit Columns(std::int64_t positions) : values_(positions, kChunkRows) {}
  bool empty() const { return values_.empty(); }
  float* at(std::int64_t position, int panel = 0) {
    return values_.data() + position * kChunkRows + panel * kLanes;
  }
  const float* at(std::int64_t position, int panel = 0) const {
    return values_.data() + position * kChunkRows + panel * kLanes;
  }
  Matrix& values() { return values_; }

  // Copies kLanes-wide slices of positions [first, last) to or from a dense [last - first][kLanes] array.
  void gather(std::int64_t first, std::int64_t last, int panel, float* out) const;
  void scatter(std::int64_t first, std::int64_t last, int panel, const float* in);

 private:
  Matrix values_;
};

// Rows [first_row, first_row + rows) of `m` with columns in `order` (empty: natural); missing lanes are 0.
Columns load_rows(const Matrix& m, std::int64_t first_row, std::int64_t rows,
                  std::span<const std::int32_t> order);
void store_rows(const Columns& columns, std::int64_t first_row, std::int64_t rows,
                std::span<const std::int32_t> order, Matrix& m);

// Calls body(first_row, rows) for all chunks, in parallel.
void for_each_chunk(ThreadPool& pool, std::int64_t rows,
                    const std::function<void(std::int64_t first_row, std::int64_t count)>& body);

// Scales and zero points of a chunk, [unit column][kChunkRows], as effective fp32 scales.
struct ChunkScales {
  Columns scale;
  Columns zero;  // empty: symmetric
};
// Lanes without a row get scale 1.
ChunkScales load_scales(const QuantParams& params, const Units& units, std::int64_t first_row,
                        std::int64_t rows);

// What a sweep over one block of a panel needs and leaves behind, [block][kLanes] each.
struct PanelScratch {
  explicit PanelScratch(std::int64_t block);
  Matrix w, codes, q, push, keep;
  std::vector<const float*> scale, zero;
};

// w[end..] += push^T u for the positions after a block: the lazy update. `push` holds the block's positions.
void propagate(ThreadPool& pool, const Matrix& u, std::int64_t begin, std::int64_t end, Columns& push,
               Columns& w);

}  // namespace nibble::solver
