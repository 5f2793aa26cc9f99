// SPDX-License-Identifier: Apache-2.0
// The search must find less rounding noise than any strength of the formula, measured with the real
// quantizers, and must not depend on units, threads or silent channels.
#include "modify/smooth_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "codec/activation_quantizer.h"
#include "codec/quantize.h"
#include "modify/layers.h"
#include "modify/smooth_fold.h"
#include "modify/smoothquant.h"

namespace nibble {
namespace {

using testing::random_matrix;

std::vector<float> untied(std::span<const float> values) {
  return {values.begin(), values.end()};
}

// Inputs whose channels differ a hundredfold, and are loud on some tokens only.
struct Layer {
  explicit Layer(std::string_view preset, std::uint64_t seed = 1)
      : x(random_matrix(400, 96, seed)),
        w(random_matrix(64, 96, seed + 1, 0.05)),
        scheme(*preset_scheme(preset)) {
    if (scheme.input_activations && scheme.input_activations->dynamic != Dynamic::kTrue) {
      scheme.input_activations->dynamic = Dynamic::kTrue;
      scheme.input_activations->observer.reset();
    }
    const Matrix gains = random_matrix(1, 96, seed + 2);
    for (std::int64_t t = 0; t < x.rows(); ++t) {
      for (std::int64_t c = 0; c < x.cols(); ++c) {
        const bool is_loud = (t + c) % 7 == 0;
        x.at(t, c) *= std::exp(1.5f * gains.at(0, c)) * (is_loud ? 4.0f : 1.0f);
      }
    }
    observe();
  }

  void observe() {
    const auto width = static_cast<std::size_t>(x.cols());
    abs_max.assign(width, 0);
    mean_square.assign(width, 0);
    for (std::int64_t t = 0; t < x.rows(); ++t) {
      for (std::size_t c = 0; c < width; ++c) {
        const float v = x.at(t, static_cast<std::int64_t>(c));
        abs_max[c] = std::max(abs_max[c], std::fabs(v));
        mean_square[c] += v * v / static_cast<float>(x.rows());
      }
    }
  }

  SmoothChoice search(int threads = 2,
                      const std::function<std::vector<float>(std::span<const float>)>& tie = untied) {
    ThreadPool pool(threads);
    const SmoothLayer layer{
        .weight = &w, .weights = &*scheme.weights, .activations = &*scheme.input_activations};
    return search_smooth_scales(pool, {&x, abs_max, mean_square}, {&layer, 1}, tie);
  }

  std::vector<float> formula(double strength) const {
    const Matrix* const weights[] = {&w};
    return smooth_scales(abs_max, smooth_weight_scales(weights, SmoothStatistic::kAbsMax), strength,
                         SmoothAlgorithm::kSmoothQuant);
  }

  // |Q(x / s) Q(w s)^T - x w^T|^2 / |x w^T|^2 with the real quantizers.
  double noise(std::span<const float> scales) const {
    ThreadPool pool(2);
    Matrix inputs = x, weight = w;
    for (std::int64_t t = 0; t < x.rows(); ++t) {
      for (std::int64_t c = 0; c < x.cols(); ++c) inputs.at(t, c) /= scales[static_cast<std::size_t>(c)];
    }
    scale_columns(pool, scales, DType::kF32, weight);
    ActivationQuantizer::create(*scheme.input_activations, DType::kF32)
        .value()
        .apply(pool, inputs.data(), inputs.rows(), inputs.cols());
    const Tensor stored = Tensor::from_f32(DType::kF32, {w.rows(), w.cols()}, weight.values());
    const WeightParams params = min_max_params(pool, stored, *scheme.weights).value();
    simulate_weight(pool, stored, *scheme.weights, params).value().decode_f32(0, weight.values());
    double noise = 0, signal = 0;
    for (std::int64_t t = 0; t < x.rows(); ++t) {
      for (std::int64_t r = 0; r < w.rows(); ++r) {
        double y = 0, rounded = 0;
        for (std::int64_t c = 0; c < x.cols(); ++c) {
          y += static_cast<double>(x.at(t, c)) * static_cast<double>(w.at(r, c));
          rounded += static_cast<double>(inputs.at(t, c)) * static_cast<double>(weight.at(r, c));
        }
        signal += y * y;
        noise += (y - rounded) * (y - rounded);
      }
    }
    return noise / signal;
  }

  Matrix x, w;
  QuantizationScheme scheme;
  std::vector<float> abs_max, mean_square;
};

TEST(SmoothSearchTest, BeatsEveryStrengthOfTheFormula35) {
  // The noise of four bits is no longer uniform.
  for (const auto& [preset, tolerance] : {std::pair("W8A8", 1.0), std::pair("W4A8", 1.03)}) {
    for (const std::uint64_t seed : {1U, 20U}) {
      Layer layer(preset, seed);
      const double searched = layer.noise(layer.search().scales);
      EXPECT_LT(searched, layer.noise(std::vector<float>(96, 1.0f))) << preset;
      for (const double strength : {0.3, 0.5, 0.6, 0.7, 0.85})
        EXPECT_LT(searched, tolerance * layer.noise(layer.formula(strength))) << preset << " " << strength;
    }
  }
}

TEST(SmoothSearchTest, PerTensorInputsToo) {
  Layer layer("W8A8");
  layer.scheme.input_activations->strategy = Strategy::kTensor;
  const double searched = layer.noise(layer.search().scales);
  for (const double strength : {0.0, 0.3, 0.5, 0.7, 0.85, 1.0})
    EXPECT_LT(searched, 1.02 * layer.noise(layer.formula(strength))) << strength;
}

// Uniform noise of a step d has variance d^2 / 12; ranges are symmetric.
TEST(SmoothSearchTest, TheNoiseIsThatOfTheQuantizers) {
  Layer layer("W8A8");
  const SmoothChoice choice = layer.search();
  const double before = layer.noise(std::vector<float>(96, 1.0f)), after = layer.noise(choice.scales);
  EXPECT_NEAR(choice.noise_before / 3 / before, 1, 0.15);
  EXPECT_NEAR(choice.noise_after / 3 / after, 1, 0.15);
}

// x_c k and w_c / k are the same layer: s_c grows by k.
TEST(SmoothSearchTest, UnitsOfAChannelDoNotMatter) {
  Layer plain("W8A8"), scaled("W8A8");
  for (std::int64_t t = 0; t < scaled.x.rows(); ++t) scaled.x.at(t, 5) *= 8;
  for (std::int64_t r = 0; r < scaled.w.rows(); ++r) scaled.w.at(r, 5) /= 8;
  scaled.observe();
  const std::vector<float> a = plain.search().scales, b = scaled.search().scales;
  EXPECT_NEAR(b[5] / b[6] / (8 * a[5] / a[6]), 1, 0.05);
  EXPECT_NEAR(plain.noise(a) / scaled.noise(b), 1, 0.02);
}

TEST(SmoothSearchTest, ThreadsDoNotChangeABit) {
  Layer layer("W8A8");
  EXPECT_EQ(layer.search(1).scales, layer.search(4).scales);
}

TEST(SmoothSearchTest, TiedColumnsGetOneScale) {
  Layer layer("W8A8");
  const auto pairs = [](std::span<const float> values) {
    std::vector<float> result(values.size());
    for (std::size_t c = 0; c < values.size(); ++c) result[c] = (values[c] + values[c ^ 1]) / 2;
    return result;
  };
  const std::vector<float> scales = layer.search(2, pairs).scales;
  for (std::size_t c = 0; c < scales.size(); c += 2) EXPECT_EQ(scales[c], scales[c + 1]);
  EXPECT_LT(layer.noise(scales), layer.noise(std::vector<float>(96, 1.0f)));
}

TEST(SmoothSearchTest, SilentChannelsKeepUsualScales) {
  Layer layer("W8A8");
  for (std::int64_t t = 0; t < layer.x.rows(); ++t) layer.x.at(t, 9) = 0;
  for (std::int64_t r = 0; r < layer.w.rows(); ++r) layer.w.at(r, 30) = 0;
  layer.observe();
  const std::vector<float> scales = layer.search().scales;
  for (const float s : scales) {
    EXPECT_TRUE(std::isfinite(s));
    EXPECT_GT(s, 1e-4f);
    EXPECT_LT(s, 1e4f);
  }
}

}  // namespace
}  // namespace nibble
