// SPDX-License-Identifier: Apache-2.0
#include "session/storage.h"

#include <fmt/format.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <map>

#include "base/json.h"
#include "base/suggest.h"

namespace nibble {
namespace {

bool is_plain_float(DType dtype) {
  return dtype == DType::kF64 || dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

// The words of llm-compressor's `precision`; torch's own names are read too.
const std::map<std::string, DType>& precisions() {
  static const std::map<std::string, DType> names{
      {"fp16", DType::kF16}, {"half", DType::kF16}, {"bf16", DType::kBF16}, {"fp32", DType::kF32}};
  return names;
}

Result<DType> named_precision(const std::string& name) {
  if (const auto found = precisions().find(name); found != precisions().end()) return found->second;
  const auto dtype = dtype_from_torch(name);
  if (dtype == DType::kF16 || dtype == DType::kBF16 || dtype == DType::kF32) return *dtype;
  const std::vector<std::string> allowed{"auto", "fp16", "bf16", "fp32"};
  return usage_error(fmt::format("precision \"{}\" is unknown; allowed are {}", name, join_or(allowed)),
                     did_you_mean(name, allowed));
}

std::optional<DType> dtype_of_config(const Json& config) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    if (!config.is_object() || !config.contains(key) || !config[key].is_string()) continue;
    const auto dtype = dtype_from_torch(config[key].get<std::string>());
    if (dtype && is_plain_float(*dtype)) return dtype;
  }
  return std::nullopt;
}

// The float type that most weights have.
std::optional<DType> dtype_of_tensors(const Checkpoint& checkpoint) {
  std::map<DType, std::int64_t> elements;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (is_plain_float(tensor.dtype)) elements[tensor.dtype] += element_count(tensor.shape);
  }
  std::optional<DType> most;
  for (const auto& [dtype, count] : elements) {
    if (!most || count > elements[*most]) most = dtype;
  }
  return most;
}

// The type that most weights of a GGUF have on disk: "F16", "Q4_K".
std::string most_stored_type(const Checkpoint& checkpoint) {
  std::map<std::string, std::uint64_t> elements;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    elements[tensor.stored_as] += static_cast<std::uint64_t>(element_count(tensor.shape));
  }
  std::string most;
  for (const auto& [type, count] : elements) {
    if (most.empty() || count > elements[most]) most = type;
  }
  return most;
}

StorageRule rule_of_gguf(const Checkpoint& checkpoint) {
  const std::string type = most_stored_type(checkpoint);
  const auto plain = dtype_from_safetensors(type);
  if (plain && is_plain_float(*plain)) return {.model_dtype = *plain, .cast_all = true, .note = {}};
  return {
      .model_dtype = DType::kF16,
      .cast_all = true,
      .note = fmt::format(
          "the source is {}; its values are decoded and stored as float16 (--precision changes it)", type)};
}

}  // namespace

DType StorageRule::carried(DType stored) const {
  return cast_all && is_plain_float(stored) ? model_dtype : stored;
}

std::optional<DType> StorageRule::quantizable(DType stored) const {
  if (!is_plain_float(stored)) return std::nullopt;
  const DType dtype = carried(stored);
  return dtype == DType::kF64 ? DType::kF32 : dtype;
}

Result<StorageRule> storage_rule(const Checkpoint& checkpoint, const std::string& precision, bool reference) {
  if (precision != "auto" && !precision.empty()) {
    TRY_ASSIGN(const DType dtype, named_precision(precision));
    return StorageRule{.model_dtype = dtype, .cast_all = true, .note = {}};
  }
  if (checkpoint.gguf() != nullptr) return rule_of_gguf(checkpoint);
  const auto of_config = dtype_of_config(checkpoint.config());
  const auto of_tensors = dtype_of_tensors(checkpoint);
  const DType dtype = of_config.value_or(of_tensors.value_or(DType::kF32));
  return StorageRule{.model_dtype = dtype, .cast_all = reference, .note = {}};
}

Result<Tensor> cast_tensor(ThreadPool& pool, const Tensor& tensor, DType dtype, std::string_view name) {
  if (tensor.dtype() == dtype) return tensor;
  Tensor out = Tensor::for_overwrite(dtype, tensor.shape());
  std::byte* bytes = out.mutable_bytes().data();
  constexpr std::int64_t kChunk = std::int64_t{1} << 16;
  std::atomic<bool> overflows{false};
  pool.parallel_for(tensor.size(), kChunk, [&](std::int64_t first, std::int64_t last) {
    std::vector<float> values(static_cast<std::size_t>(last - first));
    tensor.decode_f32(first, values);
    const Tensor narrow = Tensor::from_f32(dtype, {last - first}, values);
    std::memcpy(bytes + static_cast<std::size_t>(first) * dtype_bytes(dtype), narrow.bytes().data(),
                narrow.byte_size());
    narrow.decode_f32(0, values);
    for (const float value : values) {
      if (std::isinf(value)) overflows = true;
    }
  });
  if (!overflows) return out;
  return failed(fmt::format("tensor {} holds values that do not fit {}", name, torch_name(dtype)),
                "use --precision bf16 or fp32");
}

}  // namespace nibble
