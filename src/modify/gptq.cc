// SPDX-License-Identifier: Apache-2.0
// Our GPTQ: fp64 factor, group-aware order, scales searched at group entry, then coordinate descent and scale
// refits in the damped metric (each part is an option).
#include "modify/gptq.h"

#include "modify/magr.h"
#include "modify/solver/check_input.h"
#include "modify/solver/loss.h"
#include "modify/solver/order.h"
#include "modify/solver/scale_search.h"
#include "modify/solver/stored.h"
#include "modify/solver/sweep.h"

namespace nibble {
namespace {

std::vector<std::int32_t> column_order(const Matrix& metric, const solver::Units& units, ColumnOrder order) {
  if (order == ColumnOrder::kNatural) return solver::natural_order(metric.rows());
  // A unit that spans all columns, or scales that are fixed beforehand, leave the order free: group_order
  // with one group is the plain order by the diagonal.
  return solver::group_order(metric, units.is_per_row() ? units.unit_cols : metric.rows());
}

// The scales that hold where none are searched in the sweep.
Result<QuantParams> start_params(ThreadPool& pool, const Matrix& weight, const Matrix& metric,
                                 const solver::LayerGrid& grid, const QuantizationArgs& args,
                                 const GptqOptions& options) {
  if (options.params != nullptr) return *options.params;
  if (!options.search_scales || grid.units.is_per_row()) {
    return min_max_solver_params(pool, weight, args, options.model_dtype, options.global_scale);
  }
  std::vector<float> importance;
  for (std::int64_t c = 0; c < metric.rows(); ++c) importance.push_back(metric.at(c, c));
  return solver::search_static(pool, weight, importance, solver::search_options(grid, 1, false), grid);
}

// Checks the input and fills what rounding and GPTQ have in common.
Result<solver::SweepPlan> make_plan(const Matrix& weight, const Hessian& hessian,
                                    const QuantizationArgs& args, const GptqOptions& options) {
  TRY(solver::check_layer(weight, hessian.values));
  solver::SweepPlan plan;
  plan.block_size = options.block_size;
  plan.keep = options.keep;
  TRY_ASSIGN(plan.grid, solver::layer_grid(args, weight.rows(), weight.cols(), options.model_dtype,
                                           options.global_scale));
  return plan;
}

}  // namespace

Result<const GptqMetrics::Metric*> GptqMetrics::of(ThreadPool& pool, const Hessian& hessian,
                                                   const std::vector<std::int32_t>& order,
                                                   double dampening_frac) {
  if (hessian_ == &hessian && order_ == order && dampening_frac_ == dampening_frac) return &metric_;
  hessian_ = nullptr;
  metric_ = {};
  metric_.damped = solver::without_dead(hessian.values, 1.0, 0.0);
  TRY_ASSIGN(metric_.factor, solver::inverse_factor(pool, metric_.damped, order, dampening_frac));
  for (std::int64_t c = 0; c < hessian.cols(); ++c)
    metric_.damped.at(c, c) += static_cast<float>(metric_.factor.lambda);
  hessian_ = &hessian;
  order_ = order;
  dampening_frac_ = dampening_frac;
  return &metric_;
}

Result<GptqResult> gptq(ThreadPool& pool, const Matrix& weight, const Hessian& hessian,
                        const QuantizationArgs& args, const GptqOptions& options, GptqMetrics* shared) {
  TRY_ASSIGN(solver::SweepPlan plan, make_plan(weight, hessian, args, options));
  plan.order = column_order(hessian.values, plan.grid.units, options.order);
  GptqMetrics own;
  TRY_ASSIGN(const GptqMetrics::Metric* const metric,
             (shared != nullptr ? *shared : own).of(pool, hessian, plan.order, options.dampening_frac));
  plan.u = &metric->factor.u;
  const solver::ScaleSearch search(
      solver::search_options(plan.grid, options.scale_finalists, options.negative_scales), plan.grid);
  if (options.search_scales && plan.grid.units.is_per_row()) plan.search = &search;

  GptqResult result;
  TRY_ASSIGN(result.params, start_params(pool, weight, metric->damped, plan.grid, args, options));
  result.damping = metric->factor.damping;
  const Matrix start = options.magr_strength > 0
                           ? reduce_magnitudes(pool, weight, metric->damped, plan.grid.units,
                                               {.strength = options.magr_strength})
                           : Matrix();
  solver::SweepResult swept = solver::sweep_layer(pool, plan, start.empty() ? weight : start, result.params);
  result.weight = std::move(swept.weight);
  result.codes = std::move(swept.codes);
  refine(pool, weight, metric->damped, plan.grid, options.keep, options.refine, result.codes, result.weight,
         result.params);
  result.loss = solver::layer_loss(pool, result.weight, weight, hessian.values);
  return result;
}

Result<GptqResult> round_to_nearest(ThreadPool& pool, const Matrix& weight, const Hessian& hessian,
                                    const QuantizationArgs& args, const GptqOptions& options) {
  TRY_ASSIGN(solver::SweepPlan plan, make_plan(weight, hessian, args, options));
  plan.order = solver::natural_order(weight.cols());
  // With U = I nothing is pushed on: the sweep is plain rounding.
  Matrix identity(weight.cols(), weight.cols());
  for (std::int64_t c = 0; c < weight.cols(); ++c) identity.at(c, c) = 1;
  plan.u = &identity;
  GptqResult result;
  if (options.params != nullptr) {
    result.params = *options.params;
  } else {
    TRY_ASSIGN(result.params,
               min_max_solver_params(pool, weight, args, options.model_dtype, options.global_scale));
  }
  solver::SweepResult swept = solver::sweep_layer(pool, plan, weight, result.params);
  result.weight = std::move(swept.weight);
  result.codes = std::move(swept.codes);
  result.loss = solver::layer_loss(pool, result.weight, weight, hessian.values);
  return result;
}

}  // namespace nibble
