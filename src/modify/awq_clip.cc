// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/gemm.h"
#include "modify/awq.h"
#include "modify/solver/check_input.h"
#include "modify/solver/factor.h"

namespace nibble {
namespace {

// All rows of one group of columns.
class GroupClip {
 public:
  GroupClip(ThreadPool& pool, const Matrix& weight, const Matrix& hessian, const solver::LayerGrid& grid,
            std::int64_t first, std::int64_t count)
      : pool_(pool),
        weight_(weight),
        hessian_(hessian),
        grid_(grid),
        first_(first),
        count_(count),
        error_(weight.rows(), count),
        image_(weight.rows(), count),
        best_(static_cast<std::size_t>(weight.rows()), std::numeric_limits<double>::infinity()) {}

  void run(const ClipOptions& options, std::int64_t unit, QuantParams& params) {
    for (int step = 0; step < options.steps; ++step) {
      const double share = 1 - (1 - options.narrowest) * step / options.steps;
      try_share(static_cast<float>(share), unit, params);
    }
  }

 private:
  solver::UnitScale row_scale(std::int64_t row, float share) const {
    float low = 0, high = 0;
    for (std::int64_t c = first_; c < first_ + count_; ++c) {
      low = std::min(low, weight_.at(row, c));
      high = std::max(high, weight_.at(row, c));
    }
    return solver::scale_for_range(grid_, low * share, high * share);
  }

  void try_share(float share, std::int64_t unit, QuantParams& params) {
    std::vector<solver::UnitScale> scales;
    for (std::int64_t r = 0; r < weight_.rows(); ++r) {
      scales.push_back(row_scale(r, share));
      for (std::int64_t c = 0; c < count_; ++c) {
        const float w = weight_.at(r, first_ + c);
        error_.at(r, c) =
            w - solver::round_weight(w, scales.back().scale, scales.back().zero, grid_.codes, grid_.product);
      }
    }
    kernels::gemm_nn(pool_, weight_.rows(), count_, count_, error_.data(), count_,
                     hessian_.data() + first_ * hessian_.cols() + first_, hessian_.cols(), image_.data(),
                     count_);
    for (std::int64_t r = 0; r < weight_.rows(); ++r) {
      double loss = 0;
      for (std::int64_t c = 0; c < count_; ++c) {
        loss += static_cast<double>(error_.at(r, c)) * static_cast<double>(image_.at(r, c));
      }
      const auto row = static_cast<std::size_t>(r);
      if (!(loss < best_[row])) continue;
      best_[row] = loss;
      params.scale.at(r, unit) = scales[row].stored;
      if (!params.zero_point.empty()) params.zero_point.at(r, unit) = scales[row].zero;
    }
  }

  ThreadPool& pool_;
  const Matrix& weight_;
  const Matrix& hessian_;
  const solver::LayerGrid& grid_;
  std::int64_t first_, count_;
  Matrix error_, image_;
  std::vector<double> best_;
};

}  // namespace

Result<QuantParams> awq_clip(ThreadPool& pool, const Matrix& weight, const Hessian& hessian,
                             const QuantizationArgs& args, DType model_dtype, float global_scale,
                             const ClipOptions& options) {
  TRY(solver::check_layer(weight, hessian.values));
  TRY_ASSIGN(const solver::LayerGrid grid,
             solver::layer_grid(args, weight.rows(), weight.cols(), model_dtype, global_scale));
  if (!grid.units.is_per_row()) {
    return usage_error("the clip search needs channel or group schemes",
                       "leave it out for tensor and block schemes");
  }
  const Matrix metric = solver::without_dead(hessian.values, 1.0, 0.0);
  QuantParams params{.scale = Matrix(weight.rows(), grid.units.scale_cols()),
                     .zero_point = {},
                     .global_scale = global_scale};
  if (!grid.symmetric) params.zero_point = Matrix(weight.rows(), grid.units.scale_cols());
  pool.parallel_for(grid.units.scale_cols(), 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t unit = first; unit < last; ++unit) {
      const std::int64_t begin = unit * grid.units.unit_cols;
      const std::int64_t count = std::min(grid.units.unit_cols, weight.cols() - begin);
      GroupClip(pool, weight, metric, grid, begin, count).run(options, unit, params);
    }
  });
  return params;
}

}  // namespace nibble
