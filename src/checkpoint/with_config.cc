// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/with_config.h"

#include "base/json.h"

namespace nibble {
namespace {

class Reconfigured final : public Checkpoint {
 public:
  Reconfigured(std::unique_ptr<Checkpoint> stored, Json config)
      : stored_(std::move(stored)), config_(std::move(config)) {}

  const std::filesystem::path& path() const override { return stored_->path(); }
  const Json& config() const override { return config_; }
  const std::vector<TensorInfo>& tensors() const override { return stored_->tensors(); }
  const TensorInfo* find(std::string_view name) const override { return stored_->find(name); }
  Result<Tensor> load(std::string_view name) const override { return stored_->load(name); }
  Status for_row_blocks(std::string_view name, std::int64_t elements,
                        const RowBlockBody& body) const override {
    return stored_->for_row_blocks(name, elements, body);
  }
  void release(std::string_view name) const override { stored_->release(name); }
  std::vector<std::filesystem::path> companion_files() const override { return stored_->companion_files(); }
  const GgufFile* gguf() const override { return stored_->gguf(); }

 private:
  std::unique_ptr<Checkpoint> stored_;
  Json config_;
};

}  // namespace

std::unique_ptr<Checkpoint> with_config(std::unique_ptr<Checkpoint> checkpoint, Json config) {
  for (const char* key : {"quantization_config", "compression_config"}) {
    config.erase(key);
    if (checkpoint->config().is_object() && checkpoint->config().contains(key))
      config[key] = checkpoint->config()[key];
  }
  return std::make_unique<Reconfigured>(std::move(checkpoint), std::move(config));
}

}  // namespace nibble
