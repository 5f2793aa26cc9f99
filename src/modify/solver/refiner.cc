// SPDX-License-Identifier: Apache-2.0
#include "modify/solver/refiner.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/gemm.h"

namespace nibble::solver {
namespace {

constexpr std::int64_t kBlock = 128;

// A refit may move a scale by at most this factor: beyond it the codes were chosen for another grid.
constexpr double kLargestMove = 2.0;

bool all_zero(std::span<const float> values) {
  return std::ranges::all_of(values, [](float v) { return v == 0; });
}

}  // namespace

void ChunkRefiner::compute_residual() {
  Columns e(cols_);
  for (std::int64_t i = 0; i < cols_ * kChunkRows; ++i) e.at(0)[i] = w.at(0)[i] - q.at(0)[i];
  kernels::gemm_nn(pool_, cols_, kChunkRows, cols_, metric_.data(), cols_, e.at(0), kChunkRows,
                   residual_.at(0), kChunkRows);
}

// residual += M[:, begin..end) delta, delta = q_old - q_new.
void ChunkRefiner::apply(std::int64_t begin, std::int64_t end, const Columns& delta) {
  kernels::gemm_nn(pool_, cols_, kChunkRows, end - begin, metric_.data() + begin, cols_, delta.at(0),
                   kChunkRows, residual_.at(0), kChunkRows, true);
}

bool ChunkRefiner::descend() {
  bool moved = false;
  PanelScratch scratch(kBlock);
  for (std::int64_t begin = 0; begin < cols_; begin += kBlock) {
    const std::int64_t end = std::min(begin + kBlock, cols_);
    Columns delta(end - begin);
    for (int panel = 0; panel < kPanels && panel * kLanes < rows_; ++panel) {
      descend_panel(begin, end, panel, scratch, delta);
    }
    if (all_zero(delta.values().values())) continue;
    moved = true;
    apply(begin, end, delta);
  }
  return moved;
}

void ChunkRefiner::descend_panel(std::int64_t begin, std::int64_t end, int panel, PanelScratch& scratch,
                                 Columns& delta) {
  residual_.gather(begin, end, panel, scratch.w.data());
  codes.gather(begin, end, panel, scratch.codes.data());
  q.gather(begin, end, panel, scratch.q.data());
  if (!keep.empty()) keep.gather(begin, end, panel, scratch.keep.data());
  for (std::int64_t c = begin; c < end; ++c) {
    const std::int64_t unit = c / grid_.units.unit_cols;
    scratch.scale[static_cast<std::size_t>(c - begin)] = scales.scale.at(unit, panel);
    if (!scales.zero.empty()) scratch.zero[static_cast<std::size_t>(c - begin)] = scales.zero.at(unit, panel);
  }
  lane_table().descend({.cols = static_cast<int>(end - begin),
                        .h = metric_.data() + begin * cols_ + begin,
                        .ldh = cols_,
                        .r = scratch.w.data(),
                        .scale = scratch.scale.data(),
                        .zero = scales.zero.empty() ? nullptr : scratch.zero.data(),
                        .keep = keep.empty() ? nullptr : scratch.keep.data(),
                        .grid = grid_.codes,
                        .product = grid_.product,
                        .codes = scratch.codes.data(),
                        .q = scratch.q.data(),
                        .delta = scratch.push.data()});
  codes.scatter(begin, end, panel, scratch.codes.data());
  q.scatter(begin, end, panel, scratch.q.data());
  delta.scatter(0, end - begin, panel, scratch.push.data());
}

bool ChunkRefiner::refit() {
  bool any = false;
  const Units& units = grid_.units;
  Columns z(std::min(units.unit_cols, cols_)), image(cols_);
  for (std::int64_t unit = 0; unit < units.scale_cols(); ++unit) {
    const std::int64_t begin = unit * units.unit_cols;
    const std::int64_t count = std::min(units.unit_cols, cols_ - begin);
    for (std::int64_t c = 0; c < count; ++c) {
      for (std::int64_t r = 0; r < rows_; ++r) {
        z.at(c)[r] = codes.at(begin + c)[r] - (scales.zero.empty() ? 0.0f : scales.zero.at(unit)[r]);
      }
    }
    kernels::gemm_nn(pool_, cols_, kChunkRows, count, metric_.data() + begin, cols_, z.at(0), kChunkRows,
                     image.at(0), kChunkRows);
    const std::array<float, kChunkRows> change = scale_changes(unit, begin, count, z, image);
    if (all_zero(change)) continue;
    any = true;
    for (std::int64_t c = 0; c < cols_; ++c) {
      for (std::int64_t r = 0; r < kChunkRows; ++r) {
        residual_.at(c)[r] -= change[static_cast<std::size_t>(r)] * image.at(c)[r];
      }
    }
    for (std::int64_t c = 0; c < count; ++c) {
      for (std::int64_t r = 0; r < rows_; ++r) {
        q.at(begin + c)[r] = round_product(z.at(c)[r] * scales.scale.at(unit)[r], grid_.product);
      }
    }
  }
  return any;
}

// Sets the new scales of a unit and returns how much the effective ones grew.
std::array<float, kChunkRows> ChunkRefiner::scale_changes(std::int64_t unit, std::int64_t begin,
                                                          std::int64_t count, const Columns& z,
                                                          const Columns& image) {
  std::array<double, kChunkRows> slope{}, curvature{};
  for (std::int64_t c = 0; c < count; ++c) {
    for (std::size_t r = 0; r < kChunkRows; ++r) {
      const auto code = static_cast<double>(z.at(c)[r]);
      slope[r] += code * static_cast<double>(residual_.at(begin + c)[r]);
      curvature[r] += code * static_cast<double>(image.at(begin + c)[r]);
    }
  }
  std::array<float, kChunkRows> change{};
  for (std::size_t r = 0; r < static_cast<std::size_t>(rows_); ++r) {
    if (!(curvature[r] > 0)) continue;
    const float old = scales.scale.at(unit)[r];
    const double wanted = static_cast<double>(old) + slope[r] / curvature[r];
    const double ratio = wanted / static_cast<double>(old);
    if (!(ratio > 1 / kLargestMove && ratio < kLargestMove)) continue;
    const float value = std::copysign(grid_.storage.stored(static_cast<float>(std::fabs(wanted))), old);
    const float scale = grid_.storage.effective_of_stored(value);
    const double step = static_cast<double>(scale) - static_cast<double>(old);
    if (!(step * (step * curvature[r] - 2 * slope[r]) < 0)) continue;
    change[r] = scale - old;
    stored.at(unit)[r] = value;
    scales.scale.at(unit)[r] = scale;
  }
  return change;
}

}  // namespace nibble::solver
