// SPDX-License-Identifier: Apache-2.0
#include "modify/work_values.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "base/check.h"
#include "kernels/convert.h"

namespace nibble {
namespace {

void store(const std::string& prefix, const ActivationParams& params, bool has_static_scale,
           std::map<std::string, Tensor>& tensors) {
  if (params.global_scale) {
    tensors[prefix + "_global_scale"] =
        Tensor::of<float>(DType::kF32, {1}, std::span(&*params.global_scale, 1));
  }
  if (!has_static_scale) return;  // local: runtimes find the scales, only the global one is stored
  tensors[prefix + "_scale"] = params.scale;
  if (params.zero_point.size() > 0) tensors[prefix + "_zero_point"] = params.zero_point;
}

Status store_side(const std::string& prefix, const std::optional<QuantizationArgs>& args,
                  const std::optional<ActivationParams>& params, ModuleWork& work) {
  if (!args || args->dynamic == Dynamic::kTrue) return {};
  if (!params) {
    return failed(fmt::format("the scheme has static {} activations, but no data reached the module", prefix),
                  "calibrate with more samples, or choose dynamic activations")
        .add_context(fmt::format("module {}", work.module->name));
  }
  store(prefix, *params, args->dynamic == Dynamic::kFalse, work.activation_tensors);
  return {};
}

}  // namespace

Matrix weight_matrix(ThreadPool& pool, const ModuleWork& work) {
  const std::int64_t rows = work.weight.dim(0);
  Matrix result = Matrix::for_overwrite(rows, rows == 0 ? 0 : work.weight.size() / rows);
  kernels::decode(pool, work.weight, result);
  return result;
}

std::vector<float> bias_values(const ModuleWork& work) {
  return work.bias ? work.bias->to_f32() : std::vector<float>();
}

void store_weight(ThreadPool& pool, const Matrix& weight, ModuleWork& work) {
  Tensor stored = Tensor::for_overwrite(work.weight.dtype(), work.weight.shape());
  CHECK(stored.size() == std::ssize(weight.values()), "a weight keeps its size");
  kernels::encode_from_f32(pool, stored.dtype(), weight.data(), stored.size(), stored.mutable_bytes().data());
  work.weight = std::move(stored);
}

void store_bias(std::span<const float> bias, ModuleWork& work) {
  work.bias = Tensor::from_f32(work.bias->dtype(), work.bias->shape(), bias);
}

double relative_error(double signal, double noise) {
  if (!(noise > 0)) return 0;
  return signal > 0 ? std::sqrt(noise / signal) : std::numeric_limits<double>::infinity();
}

LayerReport layer_report(const ModuleWork& work, std::string_view modifier, double signal, double noise) {
  LayerReport report;
  report.module = work.module->name;
  report.modifier = modifier;
  report.relative_error = relative_error(signal, noise);
  report.sqnr_db = noise > 0 ? 10 * std::log10(signal / noise) : std::numeric_limits<double>::infinity();
  return report;
}

Status store_activation_params(ModuleWork& work) {
  static const ModuleStatistics kNothing;
  const ModuleStatistics& seen = work.statistics ? *work.statistics : kNothing;
  if (seen.key_params) store("k", *seen.key_params, true, work.activation_tensors);
  if (seen.value_params) store("v", *seen.value_params, true, work.activation_tensors);
  if (!work.scheme) return {};
  TRY(store_side("input", work.scheme->input_activations, seen.input_params, work));
  return store_side("output", work.scheme->output_activations, seen.output_params, work);
}

}  // namespace nibble
