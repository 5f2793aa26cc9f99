// SPDX-License-Identifier: Apache-2.0
#include "modify/smooth_fold.h"

#include <fmt/format.h>

#include <cmath>

#include "kernels/convert.h"

namespace nibble {
namespace {

// w = body(w, scale of its column), rounded to what the model stores.
template <class Body>
void each_value(ThreadPool& pool, std::span<const float> scales, DType model_dtype, Matrix& weight,
                const Body& body) {
  constexpr std::int64_t kRows = 16;
  const std::int64_t cols = weight.cols();
  CHECK(static_cast<std::int64_t>(scales.size()) == cols, "one scale per column");
  pool.parallel_for(weight.rows(), kRows, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      float* row = weight.data() + r * cols;
      for (std::int64_t c = 0; c < cols; ++c) row[c] = body(row[c], scales[static_cast<std::size_t>(c)]);
    }
    kernels::round_through(pool, model_dtype, weight.data() + first * cols, (last - first) * cols);
  });
}

}  // namespace

Status check_smooth_scales(std::span<const float> scales, std::int64_t channels) {
  CHECK(static_cast<std::int64_t>(scales.size()) == channels, "one scale per channel");
  for (std::size_t c = 0; c < scales.size(); ++c) {
    if (scales[c] > 0 && std::isfinite(scales[c])) continue;
    return bad_data(
        fmt::format("the smoothing scale of channel {} is {}, expected a positive number", c, scales[c]),
        "an activation statistic is NaN or infinite: check the source weights and the calibration data");
  }
  return {};
}

void scale_columns(ThreadPool& pool, std::span<const float> scales, DType model_dtype, Matrix& weight) {
  each_value(pool, scales, model_dtype, weight, [](float w, float scale) { return w * scale; });
}

void divide_columns(ThreadPool& pool, std::span<const float> scales, DType model_dtype, Matrix& weight) {
  each_value(pool, scales, model_dtype, weight, [](float w, float scale) { return w / scale; });
}

void divide_norm(std::span<const float> scales, float offset, DType model_dtype, std::span<float> weight,
                 std::span<float> bias) {
  CHECK(scales.size() == weight.size() && (bias.empty() || bias.size() == weight.size()),
        "one scale per channel");
  for (std::size_t c = 0; c < weight.size(); ++c) {
    weight[c] = round_to(model_dtype, (offset + weight[c]) / scales[c] - offset);
    if (!bias.empty()) bias[c] = round_to(model_dtype, bias[c] / scales[c]);
  }
}

void divide_rows(std::span<const float> scales, DType model_dtype, Matrix& weight, std::span<float> bias) {
  const auto count = static_cast<std::int64_t>(scales.size());
  CHECK(count <= weight.rows() && (bias.empty() || static_cast<std::int64_t>(bias.size()) == weight.rows()),
        "the channels are the last outputs");
  const std::int64_t first = weight.rows() - count;
  for (std::int64_t i = 0; i < count; ++i) {
    const float scale = scales[static_cast<std::size_t>(i)];
    for (float& w : weight.row(first + i)) w = round_to(model_dtype, w / scale);
    if (bias.empty()) continue;
    float& b = bias[static_cast<std::size_t>(first + i)];
    b = round_to(model_dtype, b / scale);
  }
}

}  // namespace nibble
