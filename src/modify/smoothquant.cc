// SPDX-License-Identifier: Apache-2.0
#include "modify/smoothquant.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "codec/activation_quantizer.h"
#include "codec/quantize.h"
#include "kernels/gemm.h"
#include "modify/smooth_fold.h"

namespace nibble {
namespace {

constexpr float kSmallestScale = 1e-5f;

Matrix multiply(ThreadPool& pool, const Matrix& inputs, const Matrix& weight) {
  Matrix y(inputs.rows(), weight.rows());
  kernels::gemm_nt(pool, inputs.rows(), weight.rows(), inputs.cols(), inputs.data(), inputs.cols(),
                   weight.data(), weight.cols(), y.data(), y.cols());
  return y;
}

// Static and local input schemes need calibration; for comparing strengths their dynamic form serves.
QuantizationArgs dynamic_form(QuantizationArgs args) {
  if (args.dynamic == Dynamic::kTrue) return args;
  args.dynamic = Dynamic::kTrue;
  args.observer.reset();
  if (args.strategy == Strategy::kTensorGroup) args.strategy = Strategy::kGroup;
  return args;
}

// sum (Q(x / s) Q(w s)^T - x w^T)^2 over all layers.
class StrengthLoss {
 public:
  StrengthLoss(ThreadPool& pool, const Matrix& inputs, std::span<const SmoothLayer> layers, DType dtype)
      : pool_(pool), inputs_(inputs), layers_(layers), dtype_(dtype) {
    for (const SmoothLayer& layer : layers) wanted_.push_back(multiply(pool, inputs, *layer.weight));
  }

  Result<double> operator()(std::span<const float> scales) const {
    double loss = 0;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      TRY_ASSIGN(const Matrix x, quantized_inputs(scales, layers_[i]));
      TRY_ASSIGN(const Matrix w, quantized_weight(scales, layers_[i]));
      const Matrix y = multiply(pool_, x, w);
      for (std::int64_t k = 0; k < y.rows() * y.cols(); ++k) {
        const double d = static_cast<double>(y.data()[k]) - static_cast<double>(wanted_[i].data()[k]);
        loss += d * d;
      }
    }
    return loss;
  }

 private:
  Result<Matrix> quantized_inputs(std::span<const float> scales, const SmoothLayer& layer) const {
    Matrix x = inputs_;
    for (std::int64_t t = 0; t < x.rows(); ++t) {
      const std::span<float> row = x.row(t);
      for (std::size_t c = 0; c < row.size(); ++c) row[c] /= scales[c];
    }
    if (!layer.scheme->input_activations) return x;
    TRY_ASSIGN(const ActivationQuantizer quantizer,
               ActivationQuantizer::create(dynamic_form(*layer.scheme->input_activations), dtype_));
    quantizer.apply(pool_, x.data(), x.rows(), x.cols());
    return x;
  }

  Result<Matrix> quantized_weight(std::span<const float> scales, const SmoothLayer& layer) const {
    Matrix w = *layer.weight;
    scale_columns(scales, dtype_, w);
    if (!layer.scheme->weights) return w;
    const Tensor scaled = Tensor::from_f32(dtype_, {w.rows(), w.cols()}, w.values());
    TRY_ASSIGN(const WeightParams params, min_max_params(pool_, scaled, *layer.scheme->weights));
    TRY_ASSIGN(const Tensor rounded, simulate_weight(pool_, scaled, *layer.scheme->weights, params));
    rounded.decode_f32(0, w.values());
    return w;
  }

  ThreadPool& pool_;
  const Matrix& inputs_;
  std::span<const SmoothLayer> layers_;
  DType dtype_;
  std::vector<Matrix> wanted_;
};

}  // namespace

std::vector<float> smooth_activation_scales(std::span<const float> min, std::span<const float> max,
                                            SmoothStatistic statistic) {
  CHECK(min.size() == max.size(), "a minimum and a maximum per channel");
  std::vector<float> result(min.size());
  for (std::size_t c = 0; c < min.size(); ++c) {
    result[c] = statistic == SmoothStatistic::kRange
                    ? max[c] - min[c]
                    : std::max({std::fabs(min[c]), std::fabs(max[c]), kSmallestScale});
  }
  return result;
}

std::vector<float> smooth_weight_scales(std::span<const Matrix* const> weights, SmoothStatistic statistic) {
  std::vector<float> result;
  for (const Matrix* weight : weights) {
    result.resize(static_cast<std::size_t>(weight->cols()));
    for (std::int64_t r = 0; r < weight->rows(); ++r) {
      const std::span<const float> row = weight->row(r);
      for (std::size_t c = 0; c < row.size(); ++c) result[c] = std::max(result[c], std::fabs(row[c]));
    }
  }
  for (float& w : result) w = statistic == SmoothStatistic::kRange ? 2 * w : std::max(w, kSmallestScale);
  return result;
}

std::vector<float> smooth_scales(std::span<const float> activation, std::span<const float> weight,
                                 double strength, SmoothAlgorithm algorithm, DType dtype) {
  const auto power = [&](float base, double exponent) {
    return round_to(dtype, std::pow(base, round_to(dtype, static_cast<float>(exponent))));
  };
  std::vector<float> scales(activation.size());
  for (std::size_t c = 0; c < scales.size(); ++c) {
    const float a = round_to(dtype, activation[c]);
    float s = a;
    if (algorithm == SmoothAlgorithm::kLogEqualization) {
      s = round_to(dtype, a / round_to(dtype, std::log2(round_to(dtype, 2 + a))));
    } else if (weight[c] > 0) {
      s = round_to(dtype, power(a, strength) / power(weight[c], 1 - strength));
    }
    scales[c] = std::max(s, kSmallestScale);
  }
  return scales;
}

Result<StrengthChoice> search_strength(ThreadPool& pool, const Matrix& inputs,
                                       std::span<const SmoothLayer> layers, std::span<const float> activation,
                                       std::span<const double> strengths, SmoothStatistic statistic,
                                       DType model_dtype) {
  std::vector<const Matrix*> weights;
  for (const SmoothLayer& layer : layers) weights.push_back(layer.weight);
  const std::vector<float> weight_scales = smooth_weight_scales(weights, statistic);
  const StrengthLoss loss(pool, inputs, layers, model_dtype);
  StrengthChoice choice{.scales = {}, .loss = std::numeric_limits<double>::infinity()};
  const std::vector<float> ones(activation.size(), 1.0f);
  TRY_ASSIGN(choice.loss_without, loss(ones));
  for (const double strength : strengths) {
    if (!(strength >= 0 && strength <= 1)) {
      return usage_error(fmt::format("smoothing_strength is {}, allowed: 0 to 1", strength));
    }
    std::vector<float> scales =
        smooth_scales(activation, weight_scales, strength, SmoothAlgorithm::kSmoothQuant);
    TRY(check_smooth_scales(scales, inputs.cols()));
    TRY_ASSIGN(const double value, loss(scales));
    if (!(value < choice.loss)) continue;
    choice.strength = strength;
    choice.scales = std::move(scales);
    choice.loss = value;
  }
  if (!choice.scales.empty()) return choice;
  return bad_data(fmt::format("none of {} smoothing strengths has a finite loss", strengths.size()),
                  "activations or weights are NaN or infinite: check the source weights");
}

}  // namespace nibble
