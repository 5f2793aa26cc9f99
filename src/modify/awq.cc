// SPDX-License-Identifier: Apache-2.0
#include "modify/awq.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "codec/quantize.h"
#include "kernels/convert.h"
#include "modify/smooth_fold.h"
#include "modify/solver/loss.h"

namespace nibble {
namespace {

constexpr double kSmallest = 1e-4;  // of statistics and scales
constexpr float kUnitFloor = 1e-6f;

// One global scale for all tensor_group layers with the same number, from the weights as they will be
// quantized.
std::map<int, float> shared_global_scales(ThreadPool& pool, std::span<const BalanceLayer> layers,
                                          const std::vector<Tensor>& weights) {
  std::map<int, ValueRange> ranges;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].args == nullptr || layers[i].args->strategy != Strategy::kTensorGroup) continue;
    const ValueRange own = range_of(pool, weights[i]);
    const auto [place, is_new] = ranges.emplace(layers[i].siblings, own);
    if (!is_new) place->second.include(own);
  }
  std::map<int, float> scales;
  for (const auto& [siblings, range] : ranges) {
    scales[siblings] = global_scale_of(weights[0].dtype(), range.min, range.max);
  }
  return scales;
}

// Largest |w| of every unit.
std::vector<float> unit_peaks(const Matrix& weight, const UnitGrid& units) {
  std::vector<float> peaks(static_cast<std::size_t>(units.count()));
  for (std::int64_t r = 0; r < weight.rows(); ++r) {
    float* row = peaks.data() + r / units.unit_rows * units.grid_cols();
    for (std::int64_t c = 0; c < weight.cols(); ++c) {
      row[c / units.unit_cols] = std::max(row[c / units.unit_cols], std::fabs(weight.at(r, c)));
    }
  }
  return peaks;
}

}  // namespace

Result<std::vector<AwqCandidate>> awq_candidates(DuoScaling duo_scaling, std::int64_t n_grid) {
  const std::int64_t least = duo_scaling == DuoScaling::kOff ? 2 : duo_scaling == DuoScaling::kOn ? 3 : 4;
  if (n_grid < least) {
    return usage_error(fmt::format("n_grid is {}, the search needs at least {}", n_grid, least),
                       "the default is 20");
  }
  std::vector<AwqCandidate> candidates;
  const auto add = [&](std::int64_t count, std::initializer_list<bool> kinds) {
    for (std::int64_t i = 0; i < count; ++i) {
      const double ratio = static_cast<double>(i) / static_cast<double>(count - 1);
      for (const bool duo : kinds) candidates.push_back({.ratio = ratio, .duo = duo});
    }
  };
  switch (duo_scaling) {
    case DuoScaling::kOff:
      add(n_grid, {false});
      break;
    case DuoScaling::kBoth:
      add(n_grid / 2, {false, true});
      break;
    case DuoScaling::kOn:
      candidates.push_back({});
      add(n_grid - 1, {true});
  }
  return candidates;
}

Result<std::vector<float>> awq_weight_means(std::span<const BalanceLayer> layers, DType model_dtype) {
  std::vector<double> sums;
  std::int64_t rows = 0;
  for (const BalanceLayer& layer : layers) {
    if (layer.args == nullptr) continue;
    const Matrix& w = *layer.weight;
    if (layer.args->strategy == Strategy::kTensor) {
      return usage_error("duo_scaling does not work with per-tensor weight schemes",
                         "set duo_scaling: false, or choose a channel or group scheme");
    }
    sums.resize(static_cast<std::size_t>(w.cols()));
    const UnitGrid units = unit_grid(*layer.args, w.rows(), w.cols());
    const std::vector<float> peaks = unit_peaks(w, units);
    for (std::int64_t r = 0; r < w.rows(); ++r) {
      for (std::int64_t c = 0; c < w.cols(); ++c) {
        const auto unit =
            static_cast<std::size_t>(r / units.unit_rows * units.grid_cols() + c / units.unit_cols);
        const float peak = round_to(model_dtype, peaks[unit] + kUnitFloor);
        sums[static_cast<std::size_t>(c)] +=
            static_cast<double>(round_to(model_dtype, std::fabs(w.at(r, c)) / peak));
      }
    }
    rows += w.rows();
  }
  std::vector<float> means(sums.size());
  for (std::size_t c = 0; c < sums.size(); ++c)
    means[c] = static_cast<float>(sums[c] / static_cast<double>(rows));
  return means;
}

std::vector<float> awq_scales(std::span<const float> activation_mean, std::span<const float> weight_mean,
                              const AwqCandidate& candidate) {
  CHECK(!candidate.duo || weight_mean.size() == activation_mean.size(), "duo scaling needs weight means");
  std::vector<float> scales(activation_mean.size());
  float largest = 0, smallest = std::numeric_limits<float>::infinity();
  for (std::size_t c = 0; c < scales.size(); ++c) {
    double s = std::pow(static_cast<double>(activation_mean[c]), candidate.ratio);
    if (candidate.duo) s /= std::pow(static_cast<double>(weight_mean[c]), 1 - candidate.ratio) + kSmallest;
    scales[c] = static_cast<float>(std::max(s, kSmallest));
    largest = std::max(largest, scales[c]);
    smallest = std::min(smallest, scales[c]);
  }
  const float centre = std::sqrt(largest * smallest);
  for (float& s : scales) {
    s /= centre;
    if (!std::isfinite(s)) s = 1;
  }
  return scales;
}

Result<std::vector<Matrix>> awq_simulate(ThreadPool& pool, std::span<const BalanceLayer> layers,
                                         std::span<const float> scales, DType model_dtype) {
  std::vector<Tensor> scaled;
  for (const BalanceLayer& layer : layers) {
    Matrix w = *layer.weight;
    scale_columns(pool, scales, model_dtype, w);
    scaled.push_back(kernels::to_tensor(pool, model_dtype, w));
  }
  const std::map<int, float> global = shared_global_scales(pool, layers, scaled);
  std::vector<Matrix> result;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    Matrix& w = result.emplace_back(*layers[i].weight);
    if (layers[i].args == nullptr) continue;
    const auto shared = global.find(layers[i].siblings);
    const bool is_shared = layers[i].args->strategy == Strategy::kTensorGroup;
    TRY_ASSIGN(const WeightParams params,
               min_max_params(pool, scaled[i], *layers[i].args,
                              is_shared ? std::optional(shared->second) : std::nullopt));
    TRY_ASSIGN(const Tensor rounded, simulate_weight(pool, scaled[i], *layers[i].args, params));
    kernels::decode(pool, rounded, w);
    divide_columns(pool, scales, model_dtype, w);
  }
  return result;
}

BalanceLoss hessian_loss(ThreadPool& pool, std::span<const BalanceLayer> layers, const Hessian& hessian) {
  return [&pool, layers, &hessian](std::span<const Matrix> weights) -> Result<double> {
    double loss = 0;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      if (layers[i].args == nullptr) continue;
      loss += solver::layer_loss(pool, weights[i], *layers[i].weight, hessian.values);
    }
    return loss;
  };
}

Result<AwqChoice> awq_search(ThreadPool& pool, std::span<const BalanceLayer> layers,
                             std::span<const float> activation_mean, std::span<const AwqCandidate> candidates,
                             DType model_dtype, const BalanceLoss& loss) {
  std::vector<float> weight_mean;
  if (std::ranges::any_of(candidates, [](const AwqCandidate& c) { return c.duo; })) {
    TRY_ASSIGN(weight_mean, awq_weight_means(layers, model_dtype));
  }
  AwqChoice choice{.scales = {}, .candidate = {}, .loss = std::numeric_limits<double>::infinity()};
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    std::vector<float> scales = awq_scales(activation_mean, weight_mean, candidates[i]);
    TRY_ASSIGN(const std::vector<Matrix> weights, awq_simulate(pool, layers, scales, model_dtype));
    TRY_ASSIGN(const double value, loss(weights));
    if (i == 0) choice.loss_without = value;
    if (!(value < choice.loss)) continue;
    choice.scales = std::move(scales);
    choice.candidate = candidates[i];
    choice.loss = value;
  }
  if (!choice.scales.empty()) return choice;
  return bad_data(fmt::format("none of the {} AWQ candidates has a finite loss", candidates.size()),
                  "activations or weights are NaN or infinite: check the source weights");
}

}  // namespace nibble
