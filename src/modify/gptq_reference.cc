// SPDX-License-Identifier: Apache-2.0
// llm-compressor's GPTQ (modifiers/gptq/gptq_quantize.py): fixed scales, dead columns zeroed, lazy updates
// per block. One deviation: a Hessian that cannot be factored gets more damping instead of plain rounding.
#include <algorithm>
#include <numeric>

#include "modify/gptq.h"
#include "modify/solver/check_input.h"
#include "modify/solver/order.h"
#include "modify/solver/sweep.h"

namespace nibble {
namespace {

// The reference applies act-order to every strategy whose units are groups; `group` elsewhere means none.
bool regroups(const QuantizationArgs& args) {
  return args.actorder == ActOrder::kGroup && args.group_size.has_value() && *args.group_size > 0;
}

Result<GptqResult> sweep_in_order(ThreadPool& pool, const Matrix& weight, const Matrix& metric,
                                  std::vector<std::int32_t> order, const QuantizationArgs& args,
                                  QuantParams params, const GptqReferenceOptions& options) {
  solver::SweepPlan plan;
  TRY_ASSIGN(plan.grid, solver::layer_grid(args, weight.rows(), weight.cols(), options.model_dtype,
                                           params.global_scale));
  plan.order = std::move(order);
  plan.block_size = options.block_size;
  TRY_ASSIGN(const solver::InverseFactor factor,
             solver::inverse_factor(pool, metric, plan.order, options.dampening_frac));
  plan.u = &factor.u;
  solver::SweepResult swept = solver::sweep_layer(pool, plan, weight, params);
  return GptqResult{.weight = std::move(swept.weight),
                    .codes = std::move(swept.codes),
                    .params = std::move(params),
                    .group_index = {},
                    .loss = std::accumulate(swept.row_loss.begin(), swept.row_loss.end(), 0.0) / 2,
                    .damping = factor.damping};
}

}  // namespace

Result<GptqResult> gptq_reference(ThreadPool& pool, const Matrix& weight, const Hessian& hessian,
                                  const QuantizationArgs& args, const QuantParams& params,
                                  const GptqReferenceOptions& options) {
  TRY(solver::check_layer(weight, hessian.values));
  // The reference orders columns before it gives dead ones a diagonal of 1.
  const std::vector<std::int32_t> by_diagonal = solver::diagonal_order(hessian.values);
  const Matrix metric = solver::without_dead(hessian.values, hessian.reference_scale(), 1.0);
  Matrix live = solver::zero_dead_columns(weight, hessian.values);
  if (!regroups(args)) {
    const bool ordered = args.actorder == ActOrder::kWeight;
    return sweep_in_order(pool, live, metric, ordered ? by_diagonal : solver::natural_order(weight.cols()),
                          args, params, options);
  }
  CHECK(options.observe != nullptr, "act-order `group` needs an observer");
  const std::vector<std::int32_t> inverse = solver::inverse_order(by_diagonal);
  const Matrix permuted = solver::permute_columns(metric, by_diagonal);  // rows follow in the next line
  Matrix permuted_metric(metric.rows(), metric.cols());
  for (std::int64_t i = 0; i < metric.rows(); ++i) {
    std::ranges::copy(permuted.row(by_diagonal[static_cast<std::size_t>(i)]), permuted_metric.row(i).begin());
  }
  TRY_ASSIGN(QuantParams fitted, options.observe(solver::permute_columns(weight, by_diagonal)));
  TRY_ASSIGN(GptqResult result,
             sweep_in_order(pool, solver::permute_columns(live, by_diagonal), permuted_metric,
                            solver::natural_order(weight.cols()), args, std::move(fitted), options));
  result.weight = solver::permute_columns(result.weight, inverse);
  result.codes = solver::permute_columns(result.codes, inverse);
  for (const std::int32_t position : inverse) {
    result.group_index.push_back(static_cast<std::int32_t>(position / *args.group_size));
  }
  return result;
}

}  // namespace nibble
