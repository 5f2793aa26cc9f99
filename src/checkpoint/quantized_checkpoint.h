// SPDX-License-Identifier: Apache-2.0
// The compressed-tensors layer over a checkpoint: which modules are stored compressed, by which scheme, and
// their weights packed (for kernels) or dense (for everything else).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/quantization_config.h"
#include "codec/compressed_weight.h"

namespace nibble {

struct QuantizedModule {
  std::string name;       // "model.layers.0.self_attn.q_proj", as on disk
  std::size_t group = 0;  // in config().groups
  CompressionFormat format = CompressionFormat::kDense;
  std::int64_t rows = 0, cols = 0;
  std::vector<std::string> tensors;  // names of all its stored parts of the weight
};

class QuantizedCheckpoint {
 public:
  // Null for a model without quantization_config. Refuses a module whose stored tensors no config group
  // explains. `checkpoint` must outlive the object.
  static Result<std::unique_ptr<QuantizedCheckpoint>> open(const Checkpoint& checkpoint);

  const QuantizationConfig& config() const { return config_; }
  const std::vector<QuantizedModule>& modules() const { return modules_; }  // in the order of the files
  const QuantizedModule* find(std::string_view module) const;
  const QuantizationScheme& scheme(const QuantizedModule& module) const {
    return config_.groups[module.group].second;
  }
  DType model_dtype() const { return model_dtype_; }

  Result<CompressedWeight> load(const QuantizedModule& module) const;

 private:
  explicit QuantizedCheckpoint(const Checkpoint& checkpoint) : checkpoint_(&checkpoint) {}
  Status find_modules();
  Status add_module(const std::string& name, const SchemeResolver& resolver);
  Status read_shape(QuantizedModule& module) const;

  const Checkpoint* checkpoint_;
  QuantizationConfig config_;
  std::vector<QuantizedModule> modules_;
  std::unordered_map<std::string, std::size_t> by_name_;
  DType model_dtype_ = DType::kF32;
};

// The same model with every compressed module as one dense `<module>.weight` in the model's dtype, and
// without the tensors that only quantized runtimes need (activation and cache scales). A dense model comes
// back as it is. `pool` decodes and must outlive the checkpoint.
Result<std::unique_ptr<Checkpoint>> decompressed(std::unique_ptr<Checkpoint> checkpoint, ThreadPool& pool);

}  // namespace nibble
