// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/sparse_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <unordered_set>

#include "base/json.h"
#include "checkpoint/checkpoint_view.h"
#include "codec/sparse_format.h"

namespace nibble {
namespace {

constexpr std::array<const char*, 2> kConfigKeys{"quantization_config", "compression_config"};

Json* sparsity_config(Json& config) {
  for (const char* key : kConfigKeys) {
    if (!config.is_object() || !config.contains(key) || !config[key].is_object()) continue;
    Json& metadata = config[key];
    if (metadata.contains("sparsity_config") && metadata["sparsity_config"].is_object())
      return &metadata["sparsity_config"];
  }
  return nullptr;
}

std::optional<SparseFormat> format_of(const Json& config) {
  Json copy = config;
  const Json* sparsity = sparsity_config(copy);
  if (sparsity == nullptr || !sparsity->contains("format") || !(*sparsity)["format"].is_string())
    return std::nullopt;
  return sparse_format_from_string((*sparsity)["format"].get<std::string>());
}

// Without the sparse form; nothing of the metadata where it said no more than that.
Json config_of_weights(Json config) {
  if (Json* sparsity = sparsity_config(config)) sparsity->clear();
  for (const char* key : kConfigKeys) {
    if (!config.contains(key)) continue;
    const Json& metadata = config[key];
    const auto holds = [&](const char* name) {
      return metadata.contains(name) && metadata[name].is_object() && !metadata[name].empty();
    };
    if (!holds("config_groups") && !holds("kv_cache_scheme") && !holds("transform_config")) config.erase(key);
  }
  return config;
}

class SparseCheckpoint final : public CheckpointView {
 public:
  SparseCheckpoint(std::unique_ptr<Checkpoint> stored, SparseFormat format)
      : CheckpointView(std::move(stored)),
        format_(format),
        config_(config_of_weights(this->stored().config())) {}

  const Json& config() const override { return config_; }

  Status read() {
    // The suffix that no other tensor of a model has marks a module.
    const std::string marker = "." + sparse_suffixes(format_).at(2);
    for (const TensorInfo& info : stored().tensors()) {
      if (info.name.ends_with(marker))
        modules_.emplace(info.name.substr(0, info.name.size() - marker.size()));
    }
    std::vector<TensorInfo> infos;
    for (const TensorInfo& info : stored().tensors()) {
      const std::string module = info.name.substr(0, info.name.rfind('.'));
      if (!is_part(info.name)) {
        infos.push_back(info);
      } else if (info.name == module + marker) {
        TRY_ASSIGN(TensorInfo weight, weight_of(module).at(place(module)));
        infos.push_back(std::move(weight));
      }
    }
    show(std::move(infos));
    return {};
  }

  Result<Tensor> load(std::string_view name) const override {
    const std::string* module = module_of(name);
    if (module == nullptr) return stored().load(name);
    TRY_ASSIGN(const auto parts, parts_of(*module));
    return sparse_decompress(parts, format_).at(place(*module));
  }

  Status for_row_blocks(std::string_view name, std::int64_t elements,
                        const RowBlockBody& body) const override {
    const std::string* module = module_of(name);
    if (module == nullptr) return stored().for_row_blocks(name, elements, body);
    TRY_ASSIGN(const auto parts, parts_of(*module));
    return sparse_decompress_rows(parts, format_, rows_of_block(*find(name), elements), body)
        .at(place(*module));
  }

  void release(std::string_view name) const override {
    const std::string* module = module_of(name);
    if (module == nullptr) return stored().release(name);
    for (const std::string& suffix : sparse_suffixes(format_)) stored().release(*module + "." + suffix);
  }

 private:
  std::string place(const std::string& module) const {
    return fmt::format("{}: module {}", path().string(), module);
  }

  Result<std::map<std::string, Tensor>> parts_of(const std::string& module) const {
    std::map<std::string, Tensor> parts;
    for (const std::string& suffix : sparse_suffixes(format_)) {
      TRY_ASSIGN(Tensor part, stored().load(module + "." + suffix));
      parts.emplace(suffix, std::move(part));
    }
    return parts;
  }

  bool is_part(const std::string& name) const {
    const auto dot = name.rfind('.');
    if (dot == std::string::npos || !modules_.contains(name.substr(0, dot))) return false;
    const auto& suffixes = sparse_suffixes(format_);
    return std::find(suffixes.begin(), suffixes.end(), name.substr(dot + 1)) != suffixes.end();
  }

  const std::string* module_of(std::string_view tensor) const {
    const auto found = modules_.find(std::string(module_of_weight(tensor)));
    return found == modules_.end() ? nullptr : &*found;
  }

  Result<TensorInfo> weight_of(const std::string& module) const {
    if (stored().find(module + ".weight") != nullptr)
      return bad_data("it has a sparse weight and a dense one");
    TensorInfo info{module + ".weight", DType::kF32, {}, std::string(to_string(format_)), 0, {}};
    for (const std::string& suffix : sparse_suffixes(format_)) {
      const TensorInfo* part = stored().find(module + "." + suffix);
      if (part == nullptr) return bad_data(fmt::format("{} is missing", suffix));
      info.stored_bytes += part->stored_bytes;
      if (info.file.empty()) info.file = part->file;
    }
    const TensorInfo* values = stored().find(module + "." + sparse_suffixes(format_).at(1));
    const bool halves = format_ == SparseFormat::kQuads && values->dtype == DType::kU8;
    info.dtype = halves ? DType::kI8 : values->dtype;
    TRY_ASSIGN(const Tensor shape, stored().load(module + ".shape"));
    if (shape.dtype() != DType::kI64 || shape.size() != 2) return bad_data("shape must be two int64");
    const auto dims = shape.as<std::int64_t>();
    constexpr std::int64_t kMost = std::int64_t{1} << 31;
    if (dims[0] < 0 || dims[1] < 0 || dims[0] > kMost || dims[1] > kMost)
      return bad_data(fmt::format("shape is {} x {}", dims[0], dims[1]));
    info.shape = {dims[0], dims[1]};
    return info;
  }

  SparseFormat format_;
  Json config_;
  std::unordered_set<std::string> modules_;
};

}  // namespace

Result<std::unique_ptr<Checkpoint>> with_sparse_weights(std::unique_ptr<Checkpoint> checkpoint) {
  const std::optional<SparseFormat> format = format_of(checkpoint->config());
  if (!format) return checkpoint;
  auto view = std::make_unique<SparseCheckpoint>(std::move(checkpoint), *format);
  TRY(view->read());
  return std::unique_ptr<Checkpoint>(std::move(view));
}

}  // namespace nibble
