// SPDX-License-Identifier: Apache-2.0
#include "codec/activation_quantizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "codec/quantize.h"

namespace nibble {
namespace {

constexpr std::int64_t kRowGrain = 8;

}  // namespace

ActivationQuantizer::ActivationQuantizer(const QuantizationArgs& args, DType dtype,
                                         std::optional<float> global_scale)
    : rule_(args, dtype, global_scale),
      dtype_(dtype),
      strategy_(*args.strategy),
      group_size_(args.group_size.value_or(0)),
      is_dynamic_(args.dynamic != Dynamic::kFalse),
      has_zero_point_(!args.symmetric),
      divisor_(global_scale.value_or(1.0f)) {
  quantizer_.format = code_format(args);
  quantizer_.code_min = static_cast<float>(args.code_min());
  quantizer_.code_max = static_cast<float>(args.code_max());
  quantizer_.quotient = quantizer_.product = rule_.scale_dtype();
}

Result<ActivationQuantizer> ActivationQuantizer::create(const QuantizationArgs& args, DType dtype,
                                                        const ActivationParams& params) {
  const bool is_local = args.strategy == Strategy::kTensorGroup;
  if (is_local && !params.global_scale) {
    return bad_data("input_global_scale is missing; strategy tensor_group needs it",
                    "calibrate the model, or compress it with a scheme without global scales");
  }
  ActivationQuantizer out(args, dtype, is_local ? params.global_scale : std::nullopt);
  if (args.dynamic != Dynamic::kFalse) return out;
  if (params.scale.size() == 0) {
    return bad_data("input_scale is missing; a static scheme needs it", "calibrate the model with data");
  }
  if (!args.symmetric && params.zero_point.size() != params.scale.size()) {
    return bad_data(fmt::format("the zero point has shape {}, its scale {}",
                                to_string(params.zero_point.shape()), to_string(params.scale.shape())));
  }
  const std::vector<float> scales = params.scale.to_f32();
  const std::vector<float> zeros =
      args.symmetric ? std::vector<float>(scales.size()) : params.zero_point.to_f32();
  for (std::size_t i = 0; i < scales.size(); ++i) {
    if (!std::isfinite(scales[i]) || scales[i] == 0) {
      return bad_data(fmt::format("a static scale is {}; it must be finite and not 0", scales[i]));
    }
    out.static_.push_back({scales[i], zeros[i]});
  }
  const DType scale_dtype = params.scale.dtype();
  out.quantizer_.quotient = scale_dtype == dtype ? dtype : DType::kF32;
  out.quantizer_.product = scale_dtype;
  return out;
}

std::int64_t ActivationQuantizer::run(std::int64_t cols) const {
  const auto parts = static_cast<std::int64_t>(static_.size());
  if (parts > 1) return std::max<std::int64_t>(1, (cols + parts - 1) / parts);  // heads
  const bool is_group = strategy_ == Strategy::kGroup || strategy_ == Strategy::kTensorGroup;
  return std::max<std::int64_t>(1, is_group && is_dynamic_ ? group_size_ : cols);
}

void ActivationQuantizer::row_params(const float* row, std::int64_t cols, ScaleZero* out) const {
  const auto count = static_cast<std::size_t>(runs(cols));
  std::vector<float> min(count);
  std::vector<float> max(count);
  kernels::range_row(DType::kF32, row, cols, run(cols), min.data(), max.data());
  for (std::size_t u = 0; u < count; ++u) out[u] = rule_(round_to(dtype_, min[u]), round_to(dtype_, max[u]));
}

std::vector<ScaleZero> ActivationQuantizer::shared_params(ThreadPool& pool, const float* x, std::int64_t rows,
                                                          std::int64_t cols) const {
  if (!is_dynamic_) return static_;
  std::vector<ValueRange> parts(static_cast<std::size_t>(rows));
  pool.parallel_for(rows, kRowGrain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      ValueRange& part = parts[static_cast<std::size_t>(r)];
      kernels::range_row(DType::kF32, x + r * cols, cols, cols, &part.min, &part.max);
    }
  });
  ValueRange whole = parts.front();
  for (const ValueRange& part : parts) whole.include(part);
  return {rule_(round_to(dtype_, whole.min), round_to(dtype_, whole.max))};
}

std::vector<ScaleZero> ActivationQuantizer::params(ThreadPool& pool, const float* x, std::int64_t rows,
                                                   std::int64_t cols) const {
  if (rows == 0 || cols == 0) return {};
  if (!is_per_row()) return shared_params(pool, x, rows, cols);
  const std::int64_t width = runs(cols);
  std::vector<ScaleZero> out(static_cast<std::size_t>(rows * width));
  pool.parallel_for(rows, kRowGrain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) row_params(x + r * cols, cols, out.data() + r * width);
  });
  return out;
}

void ActivationQuantizer::apply_row(float* row, std::int64_t cols, const ScaleZero* params,
                                    std::vector<float>& scratch) const {
  const auto count = static_cast<std::size_t>(runs(cols));
  scratch.resize(2 * count);
  for (std::size_t u = 0; u < count; ++u) {
    scratch[u] = params[u].scale / divisor_;
    scratch[count + u] = params[u].zero_point;
  }
  const float* zero = has_zero_point_ ? scratch.data() + count : nullptr;
  kernels::fake_quantize_row(quantizer_, row, cols, run(cols), scratch.data(), zero, row);
  // The product has the scale's dtype; what follows sees the activation's.
  if (quantizer_.product == dtype_ || dtype_ == DType::kF32) return;
  for (std::int64_t c = 0; c < cols; ++c) row[c] = round_to(dtype_, row[c]);
}

void ActivationQuantizer::apply(ThreadPool& pool, float* x, std::int64_t rows, std::int64_t cols) const {
  if (rows == 0 || cols == 0) return;
  if (dtype_ != DType::kF32) {
    pool.parallel_for(rows, kRowGrain, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first * cols; i < last * cols; ++i) x[i] = round_to(dtype_, x[i]);
    });
  }
  const std::vector<ScaleZero> shared =
      is_per_row() ? std::vector<ScaleZero>() : shared_params(pool, x, rows, cols);
  pool.parallel_for(rows, kRowGrain, [&](std::int64_t first, std::int64_t last) {
    std::vector<ScaleZero> own(is_per_row() ? static_cast<std::size_t>(runs(cols)) : 0);
    std::vector<float> scratch;
    for (std::int64_t r = first; r < last; ++r) {
      float* row = x + r * cols;
      if (is_per_row()) row_params(row, cols, own.data());
      apply_row(row, cols, is_per_row() ? own.data() : shared.data(), scratch);
    }
  });
}

}  // namespace nibble
