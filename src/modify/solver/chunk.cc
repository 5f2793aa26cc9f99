// SPDX-License-Identifier: Apache-2.0
#include "modify/solver/chunk.h"

#include <algorithm>
#include <cstring>

#include "kernels/gemm.h"

namespace nibble::solver {
namespace {

std::int64_t column_of(std::span<const std::int32_t> order, std::int64_t position) {
  return order.empty() ? position : order[static_cast<std::size_t>(position)];
}

}  // namespace

void Columns::gather(std::int64_t first, std::int64_t last, int panel, float* out) const {
  for (std::int64_t p = first; p < last; ++p, out += kLanes)
    std::memcpy(out, at(p, panel), kLanes * sizeof(float));
}

void Columns::scatter(std::int64_t first, std::int64_t last, int panel, const float* in) {
  for (std::int64_t p = first; p < last; ++p, in += kLanes)
    std::memcpy(at(p, panel), in, kLanes * sizeof(float));
}

Columns load_rows(const Matrix& m, std::int64_t first_row, std::int64_t rows,
                  std::span<const std::int32_t> order) {
  Columns result(m.cols());
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* row = m.data() + (first_row + r) * m.cols();
    for (std::int64_t p = 0; p < m.cols(); ++p) result.at(p)[r] = row[column_of(order, p)];
  }
  return result;
}

void store_rows(const Columns& columns, std::int64_t first_row, std::int64_t rows,
                std::span<const std::int32_t> order, Matrix& m) {
  for (std::int64_t r = 0; r < rows; ++r) {
    float* row = m.data() + (first_row + r) * m.cols();
    for (std::int64_t p = 0; p < m.cols(); ++p) row[column_of(order, p)] = columns.at(p)[r];
  }
}

void for_each_chunk(ThreadPool& pool, std::int64_t rows,
                    const std::function<void(std::int64_t first_row, std::int64_t count)>& body) {
  pool.parallel_for(rows, kChunkRows,
                    [&](std::int64_t first, std::int64_t last) { body(first, last - first); });
}

ChunkScales load_scales(const QuantParams& params, const Units& units, std::int64_t first_row,
                        std::int64_t rows) {
  ChunkScales result{.scale = Columns(units.scale_cols()), .zero = {}};
  if (!params.zero_point.empty()) result.zero = Columns(units.scale_cols());
  const float global = params.global_scale;
  for (std::int64_t unit = 0; unit < units.scale_cols(); ++unit) {
    float* scale = result.scale.at(unit);
    std::fill(scale, scale + kChunkRows, 1.0f);
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t unit_row = (first_row + r) / units.unit_rows;
      const float stored = params.scale.at(unit_row, unit);
      scale[r] = global == 0 ? stored : stored / global;
      if (!result.zero.empty()) result.zero.at(unit)[r] = params.zero_point.at(unit_row, unit);
    }
  }
  return result;
}

PanelScratch::PanelScratch(std::int64_t block)
    : w(block, kLanes),
      codes(block, kLanes),
      q(block, kLanes),
      push(block, kLanes),
      keep(block, kLanes),
      scale(static_cast<std::size_t>(block)),
      zero(static_cast<std::size_t>(block)) {}

void propagate(ThreadPool& pool, const Matrix& u, std::int64_t begin, std::int64_t end, Columns& push,
               Columns& w) {
  const std::int64_t rest = u.cols() - end;
  if (rest == 0) return;
  kernels::gemm_tn(pool, rest, kChunkRows, end - begin, u.data() + begin * u.cols() + end, u.cols(),
                   push.at(0), kChunkRows, w.at(end), kChunkRows, true);
}

}  // namespace nibble::solver
