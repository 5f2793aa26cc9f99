// SPDX-License-Identifier: Apache-2.0
// The linear of a compressed checkpoint: packed weights with the kernel that serves them, activations rounded
// as the scheme says, online rotations.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "checkpoint/module_match.h"
#include "checkpoint/quantized_checkpoint.h"
#include "codec/activation_quantizer.h"
#include "kernels/packed_linear.h"
#include "model/linear.h"

namespace nibble {

// x -> x V in diagonal blocks of V's size.
struct OnlineTransform {
  Matrix v;
  void apply(ThreadPool& pool, std::int64_t rows, std::int64_t cols, const float* x, float* out) const;
};

class CompressedLinear final : public Linear {
 public:
  CompressedLinear(LinearInfo info, std::vector<float> bias)
      : Linear(std::move(info)), bias_(std::move(bias)) {}

  void apply_rows(ThreadPool& pool, const float* x, std::int64_t tokens, std::int64_t first,
                  std::int64_t count, float* y, std::int64_t ldy) const override;
  Matrix weight() const override;
  const std::vector<float>& bias() const override { return bias_; }

  // Rows of the weight in pieces of kPieceRows, so that a head can be applied in slices.
  static constexpr std::int64_t kPieceRows = 4096;
  std::vector<kernels::PackedWeights> pieces;
  std::optional<ActivationQuantizer> input, output;
  bool input_is_int8 = false;  // one int8 scale a token: integer products where the weights allow them
  std::vector<OnlineTransform> input_transforms, output_transforms;

 private:
  void multiply(ThreadPool& pool, const float* x, std::int64_t tokens, std::int64_t first, std::int64_t count,
                float* y, std::int64_t ldy) const;

  std::vector<float> bias_;
};

// Rounds keys and values as a quantized cache would store them.
struct AttentionQuantizers {
  std::optional<ActivationQuantizer> query, key, value;
};

enum class OperatorForm {
  kDense,   // plain weights as DenseLinear, which may be changed
  kPacked,  // packed in the checkpoint's precision: half the memory for bf16, and no packing in every product
};

// The operators of a checkpoint: plain ones for plain weights. Reads quantization_config once.
class OperatorSource {
 public:
  // `checkpoint` must outlive the object.
  static Result<OperatorSource> open(const Checkpoint& checkpoint);

  Result<std::unique_ptr<Linear>> linear(const Context& context, const ModuleInfo& module,
                                         OperatorForm form) const;
  // Null without quantization of attention states.
  Result<std::unique_ptr<AttentionQuantizers>> attention(const ModuleInfo& module) const;

 private:
  // A rotation that the runtime applies before or after a linear.
  struct OnlineRule {
    std::string name;  // "R4"
    bool on_input = true, inverse = false;
    std::int64_t block = 0;  // size of the diagonal blocks; 0: the whole width
    ModuleTargets targets, ignore;
  };

  Status read_transforms();
  const QuantizationScheme* scheme_of(const ModuleInfo& module) const;
  std::vector<const OnlineRule*> transforms_of(const ModuleInfo& module) const;
  Result<std::unique_ptr<Linear>> compressed(const Context& context, const ModuleInfo& module) const;
  Status load_weight(const Context& context, const ModuleInfo& module, CompressedLinear& out) const;
  Result<OnlineTransform> load_transform(const ModuleInfo& module, const OnlineRule& rule) const;
  Result<std::optional<Tensor>> optional_tensor(const std::string& name) const;
  Result<ActivationQuantizer> activation_quantizer(const QuantizationArgs& args, const std::string& base,
                                                   std::string_view prefix) const;

  const Checkpoint* checkpoint_ = nullptr;
  std::unique_ptr<QuantizedCheckpoint> quantized_;  // null: a plain checkpoint
  std::optional<SchemeResolver> resolver_;
  std::vector<OnlineRule> transforms_;
};

}  // namespace nibble
