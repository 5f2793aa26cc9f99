// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/quantized_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>

#include "base/json.h"

namespace nibble {
namespace {

constexpr std::string_view kDot = ".";

// "a.b.weight_scale" is module "a.b", part "weight_scale".
std::pair<std::string_view, std::string_view> split_name(std::string_view tensor) {
  const auto dot = tensor.rfind('.');
  if (dot == std::string_view::npos) return {std::string_view(), tensor};
  return {tensor.substr(0, dot), tensor.substr(dot + 1)};
}

bool is_plain_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 || dtype == DType::kF64;
}

// Releases before 0.17 packed widths that do not divide 32 in another way.
PackLayout layout_of_version(std::string_view version) {
  int major = 0, minor = 0;
  const char* end = version.data() + version.size();
  const auto first = std::from_chars(version.data(), end, major);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != '.') return PackLayout::kDense;
  if (std::from_chars(first.ptr + 1, end, minor).ec != std::errc()) return PackLayout::kDense;
  return major == 0 && minor < 17 ? PackLayout::kWholeElements : PackLayout::kDense;
}

std::optional<DType> dtype_of_config(const Json& config) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    const auto found = config.is_object() ? config.find(key) : config.end();
    if (found == config.end() || !found->is_string()) continue;
    const auto dtype = dtype_from_torch(found->get<std::string>());
    if (dtype && is_plain_float(*dtype)) return dtype;
  }
  const auto text = config.is_object() ? config.find("text_config") : config.end();
  return text == config.end() ? std::nullopt : dtype_of_config(*text);
}

DType find_model_dtype(const Checkpoint& checkpoint) {
  if (const auto dtype = dtype_of_config(checkpoint.config())) return *dtype;
  for (const TensorInfo& info : checkpoint.tensors()) {
    if (is_plain_float(info.dtype) && !info.name.ends_with("global_scale")) return info.dtype;
  }
  return DType::kF32;
}

}  // namespace

Result<std::unique_ptr<QuantizedCheckpoint>> QuantizedCheckpoint::open(const Checkpoint& checkpoint) {
  TRY_ASSIGN(std::optional<QuantizationConfig> config, read_quantization_config(checkpoint.config()));
  if (!config) return std::unique_ptr<QuantizedCheckpoint>();
  std::unique_ptr<QuantizedCheckpoint> quantized(new QuantizedCheckpoint(checkpoint));
  quantized->config_ = *std::move(config);
  const std::string& sparsity = quantized->config_.sparsity_format;
  if (!sparsity.empty() && sparsity != "dense") {
    return bad_data(fmt::format("the sparsity format \"{}\" cannot be read; known are dense, sparse-bitmask, "
                                "sparse-24-bitmask and nibble-24",
                                sparsity),
                    "start from the uncompressed model");
  }
  quantized->model_dtype_ = find_model_dtype(checkpoint);
  TRY(quantized->find_modules().at(checkpoint.path().string()));
  return quantized;
}

Status QuantizedCheckpoint::find_modules() {
  TRY_ASSIGN(const SchemeResolver resolver, SchemeResolver::make(config_));
  for (const TensorInfo& info : checkpoint_->tensors()) {
    const auto [module, part] = split_name(info.name);
    TRY(resolver.check(module));
    if ((part != "weight_packed" && part != "weight_scale") || by_name_.contains(std::string(module)))
      continue;
    TRY(add_module(std::string(module), resolver).at(fmt::format("module {}", module)));
  }
  return {};
}

Status QuantizedCheckpoint::add_module(const std::string& name, const SchemeResolver& resolver) {
  // The tensors do not say the class; embeddings are quantized only where a group names them.
  constexpr std::array<std::string_view, 1> kEmbedding{"Embedding"};
  auto group = resolver.group_of(name, kLinearClass);
  if (!group) group = resolver.group_of(name, kEmbedding);
  if (!group || !config_.groups[*group].second.weights) {
    return bad_data("it is stored quantized, but no config group of quantization_config says how",
                    "config.json and the weights belong to different models");
  }
  QuantizedModule module{name, *group, CompressionFormat::kDense, 0, 0, {}};
  for (const std::string& suffix : weight_suffixes()) {
    const std::string tensor = name + std::string(kDot) + suffix;
    if (checkpoint_->find(tensor) != nullptr) module.tensors.push_back(tensor);
  }
  const TensorInfo* weight = checkpoint_->find(name + ".weight");
  if (weight == nullptr ||
      !is_plain_float(weight->dtype)) {  // a float weight is not compressed yet ("frozen")
    const QuantizationScheme& scheme = config_.groups[*group].second;
    TRY_ASSIGN(module.format, resolve_format(scheme));
  }
  TRY(read_shape(module));
  by_name_.emplace(name, modules_.size());
  modules_.push_back(std::move(module));
  return {};
}

// From the shapes of the parts; CompressedWeight checks them against each other when the weight is loaded.
Status QuantizedCheckpoint::read_shape(QuantizedModule& module) const {
  const TensorInfo* codes = checkpoint_->find(module.name + ".weight");
  const bool is_packed = codes == nullptr;
  if (is_packed) codes = checkpoint_->find(module.name + ".weight_packed");
  if (codes == nullptr || codes->shape.size() != 2) {
    return bad_data("it has a scale, but neither \"weight\" nor \"weight_packed\" with two dimensions");
  }
  module.rows = codes->shape[0];
  module.cols = codes->shape[1];
  if (!is_packed) return {};
  if (module.format != CompressionFormat::kPackQuantized) {  // two FP4 codes a byte
    module.cols *= 2;
    return {};
  }
  const std::string shape_name = module.name + ".weight_shape";
  if (checkpoint_->find(shape_name) == nullptr) {  // some third-party writers leave it out: whole words, then
    module.cols = module.cols * 32 / scheme(module).weights->num_bits;
    return {};
  }
  TRY_ASSIGN(const Tensor shape, checkpoint_->load(shape_name));
  if (shape.size() != 2 || (shape.dtype() != DType::kI64 && shape.dtype() != DType::kI32)) {
    return bad_data("\"weight_shape\" must be two integers");
  }
  const bool wide = shape.dtype() == DType::kI64;
  module.cols = wide ? shape.as<std::int64_t>()[1] : shape.as<std::int32_t>()[1];
  if (module.cols < 0) return bad_data(fmt::format("\"weight_shape\" has {} columns", module.cols));
  return {};
}

const QuantizedModule* QuantizedCheckpoint::find(std::string_view module) const {
  const auto found = by_name_.find(std::string(module));
  return found == by_name_.end() ? nullptr : &modules_[found->second];
}

Result<CompressedWeight> QuantizedCheckpoint::load(const QuantizedModule& module) const {
  std::map<std::string, Tensor> parts;
  for (const std::string& name : module.tensors) {
    TRY_ASSIGN(Tensor tensor, checkpoint_->load(name));
    parts.emplace(split_name(name).second, std::move(tensor));
  }
  return CompressedWeight::from_tensors(*scheme(module).weights, module.format, model_dtype_,
                                        std::move(parts), layout_of_version(config_.version))
      .at(fmt::format("{}: module {}", checkpoint_->path().string(), module.name));
}

}  // namespace nibble
