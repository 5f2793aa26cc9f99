// SPDX-License-Identifier: Apache-2.0
// A checkpoint that shows another one with tensors of its own making: what the two views of compressed models
// (sparse_checkpoint.cc, decompressed.cc) have in common.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace nibble {

class CheckpointView : public Checkpoint {
 public:
  const std::filesystem::path& path() const override { return stored_->path(); }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  std::vector<std::filesystem::path> companion_files() const override { return stored_->companion_files(); }

  const TensorInfo* find(std::string_view name) const override {
    const auto found = by_name_.find(std::string(name));
    return found == by_name_.end() ? nullptr : &infos_[found->second];
  }

 protected:
  explicit CheckpointView(std::unique_ptr<Checkpoint> stored) : stored_(std::move(stored)) {}

  // Once, when it is known.
  void show(std::vector<TensorInfo> infos) {
    infos_ = std::move(infos);
    for (std::size_t i = 0; i < infos_.size(); ++i) by_name_.emplace(infos_[i].name, i);
  }
  const Checkpoint& stored() const { return *stored_; }

  // Of a matrix, so that a block has about `elements` values.
  static std::int64_t rows_of_block(const TensorInfo& info, std::int64_t elements) {
    return std::max<std::int64_t>(1, elements / std::max<std::int64_t>(1, info.shape.at(1)));
  }

  // "model.layers.0.mlp.up_proj" of its weight; empty for other tensors.
  static std::string_view module_of_weight(std::string_view tensor) {
    constexpr std::string_view kWeight = ".weight";
    return tensor.ends_with(kWeight) ? tensor.substr(0, tensor.size() - kWeight.size()) : std::string_view();
  }

 private:
  std::unique_ptr<Checkpoint> stored_;
  std::vector<TensorInfo> infos_;
  std::unordered_map<std::string, std::size_t> by_name_;
};

}  // namespace nibble
