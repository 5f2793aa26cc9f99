// SPDX-License-Identifier: Apache-2.0
// A linear is an operator (design.md, decision 2): the forward calls apply() and does not know whether dense
// weights, simulated quantization or packed weights stand behind it. Taps see what enters and leaves it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/error.h"
#include "base/tensor.h"
#include "checkpoint/checkpoint.h"
#include "model/modules.h"

namespace nibble {

struct LinearInfo {
  std::string name;  // "model.layers.3.self_attn.q_proj"
  std::int64_t rows = 0, cols = 0;
  ModuleRole role = ModuleRole::kNone;
  int block = -1, expert = -1, stage = -1;
};

// Activations [rows, cols] of the tokens that reach a module. `mask` is null when every row counts; otherwise
// rows with mask 0 are padding and must not enter a statistic. Valid during the call only.
struct TapInput {
  const float* x = nullptr;
  std::int64_t rows = 0, cols = 0;
  const std::uint8_t* mask = nullptr;
};

// Observes a forward. Calls come in the order of execution, from one thread; a tap may use the pool itself.
class Tap {
 public:
  virtual ~Tap() = default;
  // Just before a linear is applied. Linears that share their input are called one after another with equal
  // x.
  virtual void on_input(const LinearInfo& /*linear*/, const TapInput& /*input*/) {}
  // Just after; with the bias, before anything follows.
  virtual void on_output(const LinearInfo& /*linear*/, const TapInput& /*output*/) {}
  // Keys (rotated) and values of a block as a cache would store them: [tokens, kv_heads * head_dim].
  virtual void on_key_value(const std::string& /*attention*/, std::int64_t /*head_dim*/,
                            const TapInput& /*key*/, const TapInput& /*value*/) {}
};

class DenseLinear;

class Linear {
 public:
  explicit Linear(LinearInfo info) : info_(std::move(info)) {}
  virtual ~Linear() = default;
  Linear(const Linear&) = delete;
  Linear& operator=(const Linear&) = delete;

  const LinearInfo& info() const { return info_; }
  // y[tokens, rows] = x[tokens, cols] * W^T + bias; y must not overlap x.
  void apply(ThreadPool& pool, const float* x, std::int64_t tokens, float* y) const {
    apply_rows(pool, x, tokens, 0, info_.rows, y, info_.rows);
  }
  // The same for rows [first, first + count) of W only: y[tokens, count] with row distance ldy.
  virtual void apply_rows(ThreadPool& pool, const float* x, std::int64_t tokens, std::int64_t first,
                          std::int64_t count, float* y, std::int64_t ldy) const = 0;
  // The weight as the operator uses it, as fp32 [rows, cols].
  virtual Matrix weight() const = 0;
  virtual const std::vector<float>& bias() const = 0;  // empty without a bias
  // Access to plain weights for those who change them; null when there are none.
  virtual DenseLinear* dense() { return nullptr; }

 private:
  LinearInfo info_;
};

class DenseLinear final : public Linear {
 public:
  DenseLinear(LinearInfo info, Matrix weight, std::vector<float> bias)
      : Linear(std::move(info)), weight_(std::move(weight)), bias_(std::move(bias)) {}

  void apply_rows(ThreadPool& pool, const float* x, std::int64_t tokens, std::int64_t first,
                  std::int64_t count, float* y, std::int64_t ldy) const override;
  Matrix weight() const override { return weight_; }
  const std::vector<float>& bias() const override { return bias_; }
  DenseLinear* dense() override { return this; }

  Matrix& mutable_weight() { return weight_; }
  std::vector<float>& mutable_bias() { return bias_; }

 private:
  Matrix weight_;
  std::vector<float> bias_;
};

// Weights that stay in the checkpoint's bytes and are decoded slice by slice as they are used: a head over a
// large vocabulary takes no memory of its own.
class StoredLinear final : public Linear {
 public:
  StoredLinear(LinearInfo info, Tensor weight, std::vector<float> bias)
      : Linear(std::move(info)), weight_(std::move(weight)), bias_(std::move(bias)) {}

  void apply_rows(ThreadPool& pool, const float* x, std::int64_t tokens, std::int64_t first,
                  std::int64_t count, float* y, std::int64_t ldy) const override;
  Matrix weight() const override;
  const std::vector<float>& bias() const override { return bias_; }

 private:
  Tensor weight_;
  std::vector<float> bias_;
};

LinearInfo linear_info(const ModuleInfo& module);

// Makes the operator of a module. The default, load_linear, reads dense and compressed-tensors checkpoints.
using LinearFactory =
    std::function<Result<std::unique_ptr<Linear>>(const Context&, const Checkpoint&, const ModuleInfo&)>;
Result<std::unique_ptr<Linear>> load_linear(const Context& context, const Checkpoint& checkpoint,
                                            const ModuleInfo& module);

// A float tensor as fp32 [rows, cols]; `transposed` reads a stored [cols, rows]. Refuses values that are not
// finite.
Result<Matrix> load_matrix(const Context& context, const Checkpoint& checkpoint, const std::string& tensor,
                           std::int64_t rows, std::int64_t cols, bool transposed);
Result<std::vector<float>> load_vector(const Checkpoint& checkpoint, const std::string& tensor);

}  // namespace nibble
