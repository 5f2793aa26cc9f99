// SPDX-License-Identifier: Apache-2.0
// A compressed checkpoint seen as the dense model it stands for.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <unordered_set>

#include "base/json.h"
#include "checkpoint/checkpoint_view.h"
#include "checkpoint/online_transforms.h"
#include "checkpoint/quantized_checkpoint.h"

namespace nibble {
namespace {

// Parameters of activations and caches; the weights do not need them.
constexpr std::array<std::string_view, 11> kRuntimeParts{
    "input_scale", "input_zero_point", "input_global_scale", "output_scale", "output_zero_point", "k_scale",
    "v_scale",     "k_zero_point",     "v_zero_point",       "q_scale",      "q_zero_point"};

bool is_runtime_part(std::string_view tensor) {
  const auto dot = tensor.rfind('.');
  const std::string_view part = dot == std::string_view::npos ? tensor : tensor.substr(dot + 1);
  return std::find(kRuntimeParts.begin(), kRuntimeParts.end(), part) != kRuntimeParts.end();
}

class DecompressedCheckpoint final : public CheckpointView {
 public:
  DecompressedCheckpoint(std::unique_ptr<Checkpoint> stored, ThreadPool& pool)
      : CheckpointView(std::move(stored)), pool_(pool), config_(this->stored().config()) {
    for (const char* key : {"quantization_config", "compression_config"}) config_.erase(key);
  }

  const Json& config() const override { return config_; }

  Status read(std::unique_ptr<QuantizedCheckpoint> quantized) {
    quantized_ = std::move(quantized);
    TRY_ASSIGN(online_, OnlineTransforms::make(quantized_->config(), stored()));
    std::vector<TensorInfo> infos;
    std::unordered_set<std::string_view> parts;
    for (const QuantizedModule& module : quantized_->modules()) {
      infos.push_back(dense_of(module));
      parts.insert(module.tensors.begin(), module.tensors.end());
    }
    for (const TensorInfo& info : stored().tensors()) {
      if (parts.contains(info.name) || is_runtime_part(info.name) || online_.is_matrix(info.name)) continue;
      infos.push_back(info);
    }
    for (TensorInfo& info : infos) {
      if (folded_module(info.name)) info.dtype = DType::kF32;
    }
    std::stable_sort(infos.begin(), infos.end(), [&](const TensorInfo& a, const TensorInfo& b) {
      return order_of(a.name) < order_of(b.name);
    });
    show(std::move(infos));
    return {};
  }

  Result<Tensor> load(std::string_view name) const override {
    TRY_ASSIGN(Tensor tensor, load_weight(name));
    const auto folded = folded_module(name);
    if (!folded) return tensor;
    return name.ends_with(".bias") ? online_.fold_bias(*folded, tensor)
                                   : online_.fold_weight(*folded, tensor, pool_);
  }

  Status for_row_blocks(std::string_view name, std::int64_t elements,
                        const RowBlockBody& body) const override {
    // A rotation of the outputs mixes all rows.
    if (folded_module(name)) return Checkpoint::for_row_blocks(name, elements, body);
    const QuantizedModule* module = module_of(name);
    if (module == nullptr) return stored().for_row_blocks(name, elements, body);
    TRY_ASSIGN(const CompressedWeight weight, quantized_->load(*module));
    return weight.for_dense_rows(pool_, rows_of_block(*find(name), elements), body)
        .at(fmt::format("module {}", module->name));
  }

  void release(std::string_view name) const override {
    const QuantizedModule* module = module_of(name);
    if (module == nullptr) return stored().release(name);
    for (const std::string& part : module->tensors) stored().release(part);
  }

 private:
  Result<Tensor> load_weight(std::string_view name) const {
    const QuantizedModule* module = module_of(name);
    if (module == nullptr) return stored().load(name);
    TRY_ASSIGN(const CompressedWeight weight, quantized_->load(*module));
    return weight.dense(pool_).at(fmt::format("module {}", module->name));
  }

  // The linear of `tensor` if activations around it are rotated.
  std::optional<std::string_view> folded_module(std::string_view tensor) const {
    const auto dot = tensor.rfind('.');
    if (online_.empty() || dot == std::string_view::npos) return std::nullopt;
    const std::string_view module = tensor.substr(0, dot);
    const std::string_view part = tensor.substr(dot + 1);
    const TensorInfo* weight = stored().find(std::string(module) + ".weight");
    const bool is_linear = module_of(std::string(module) + ".weight") != nullptr ||
                           (weight != nullptr && weight->shape.size() == 2);
    if ((part != "weight" && part != "bias") || !is_linear || !online_.touches(module)) return std::nullopt;
    return module;
  }

  const QuantizedModule* module_of(std::string_view tensor) const {
    const std::string_view module = module_of_weight(tensor);
    return module.empty() ? nullptr : quantized_->find(module);
  }

  TensorInfo dense_of(const QuantizedModule& module) {
    TensorInfo info{module.name + ".weight",
                    quantized_->model_dtype(),
                    {module.rows, module.cols},
                    std::string(to_string(module.format)),
                    0,
                    {}};
    for (const std::string& part : module.tensors) {
      const TensorInfo* piece = stored().find(part);
      info.stored_bytes += piece->stored_bytes;
      if (info.file.empty()) info.file = piece->file;
      position_.try_emplace(info.name, static_cast<std::size_t>(piece - stored().tensors().data()));
    }
    return info;
  }

  std::size_t order_of(const std::string& name) const {
    const auto dense = position_.find(name);
    if (dense != position_.end()) return dense->second;
    return static_cast<std::size_t>(stored().find(name) - stored().tensors().data());
  }

  ThreadPool& pool_;
  Json config_;
  std::unique_ptr<QuantizedCheckpoint> quantized_;
  OnlineTransforms online_;
  std::unordered_map<std::string, std::size_t> position_;  // of the first part of a dense weight
};

}  // namespace

Result<std::unique_ptr<Checkpoint>> decompressed(std::unique_ptr<Checkpoint> checkpoint, ThreadPool& pool) {
  TRY_ASSIGN(std::unique_ptr<QuantizedCheckpoint> quantized, QuantizedCheckpoint::open(*checkpoint));
  if (quantized == nullptr) return checkpoint;
  auto view = std::make_unique<DecompressedCheckpoint>(std::move(checkpoint), pool);
  TRY(view->read(std::move(quantized)));
  return std::unique_ptr<Checkpoint>(std::move(view));
}

}  // namespace nibble
