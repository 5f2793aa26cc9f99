// SPDX-License-Identifier: Apache-2.0
// Golden models, and a checkpoint whose config and tensor list a test may spoil.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "model/pass.h"

namespace nibble {

inline std::filesystem::path golden_root() {
  return std::filesystem::path(NIBBLE_SOURCE_DIR) / "tests/golden";
}

inline std::filesystem::path golden_model(const std::string& name) {
  const auto first = golden_root() / "models" / name;
  return std::filesystem::exists(first) ? first : golden_root() / "models-more" / name;
}

// Every model folder that has a modules.txt.
inline std::vector<std::filesystem::path> golden_models() {
  std::vector<std::filesystem::path> folders;
  for (const char* area : {"models", "models-more"}) {
    for (const auto& entry : std::filesystem::directory_iterator(golden_root() / area)) {
      if (std::filesystem::exists(entry.path() / "modules.txt")) folders.push_back(entry.path());
    }
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

// The model's own files only: golden.safetensors beside them would be taken for a shard.
inline std::unique_ptr<Checkpoint> open_checkpoint(const std::filesystem::path& folder) {
  auto checkpoint = Checkpoint::open(folder.string());
  EXPECT_TRUE(checkpoint.ok()) << (checkpoint.ok() ? "" : checkpoint.error().message());
  return checkpoint.ok() ? std::move(checkpoint).value() : nullptr;
}

struct TestContext {
  explicit TestContext(int threads = 2) : pool(threads), context{pool, sink, stop} {}
  ThreadPool pool;
  NullSink sink;
  StopToken stop;
  Context context;
};

// golden.safetensors and golden.json of a model folder.
class Golden {
 public:
  explicit Golden(const std::filesystem::path& folder)
      : tensors_(open_checkpoint(folder / "golden.safetensors")),
        record(read_json_file(folder / "golden.json").value()) {}

  bool has(const std::string& name) const { return tensors_->find(name) != nullptr; }
  Tensor tensor(const std::string& name) const { return tensors_->load(name).value(); }

  Batch batch() const {
    const Tensor ids = tensor("input_ids");
    Batch batch;
    batch.sequences = ids.dim(0);
    batch.length = ids.dim(1);
    for (const std::int64_t id : ids.as<std::int64_t>()) batch.ids.push_back(static_cast<TokenId>(id));
    if (has("attention_mask")) {
      for (const std::int64_t m : tensor("attention_mask").as<std::int64_t>()) {
        batch.mask.push_back(static_cast<std::uint8_t>(m));
      }
    }
    if (has("token_type_ids")) {
      for (const std::int64_t t : tensor("token_type_ids").as<std::int64_t>()) {
        batch.token_types.push_back(static_cast<std::int32_t>(t));
      }
    }
    return batch;
  }

 private:
  std::unique_ptr<Checkpoint> tensors_;

 public:
  Json record;
};

class FakeCheckpoint final : public Checkpoint {
 public:
  explicit FakeCheckpoint(std::unique_ptr<Checkpoint> base)
      : base_(std::move(base)), config_(base_->config()), tensors_(base_->tensors()) {}

  Json& config() { return config_; }
  void remove(const std::string& name) {
    std::erase_if(tensors_, [&](const TensorInfo& tensor) { return tensor.name == name; });
  }

  // Replaces `from` in every tensor name that holds it.
  void rename(const std::string& from, const std::string& to) {
    for (TensorInfo& tensor : tensors_) {
      const std::string old = tensor.name;
      const auto at = old.find(from);
      if (at == std::string::npos) continue;
      tensor.name.replace(at, from.size(), to);
      original_[tensor.name] = original(old);
    }
  }

  const std::filesystem::path& path() const override { return base_->path(); }
  const Json& config() const override { return config_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* find(std::string_view name) const override {
    for (const TensorInfo& tensor : tensors_) {
      if (tensor.name == name) return &tensor;
    }
    return nullptr;
  }
  Result<Tensor> load(std::string_view name) const override { return base_->load(original(name)); }
  void release(std::string_view name) const override { base_->release(original(name)); }
  std::vector<std::filesystem::path> companion_files() const override { return base_->companion_files(); }

 private:
  std::string original(std::string_view name) const {
    const auto found = original_.find(std::string(name));
    return found == original_.end() ? std::string(name) : found->second;
  }

  std::unique_ptr<Checkpoint> base_;
  Json config_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::string> original_;
};

}  // namespace nibble
