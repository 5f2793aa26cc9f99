// SPDX-License-Identifier: Apache-2.0
#include "model/linear.h"

#include <fmt/format.h>

#include <atomic>
#include <cmath>

#include "kernels/convert.h"
#include "kernels/gemm.h"
#include "kernels/rows.h"

namespace nibble {
namespace {

constexpr std::int64_t kElementGrain = 1 << 16;

Status check_finite(ThreadPool& pool, std::span<const float> values) {
  std::atomic<bool> finite{true};
  pool.parallel_for(static_cast<std::int64_t>(values.size()), kElementGrain,
                    [&](std::int64_t first, std::int64_t last) {
                      // A sum of x * 0 is NaN exactly when some x is not finite, and needs no branch.
                      float sum = 0;
                      for (std::int64_t i = first; i < last; ++i)
                        sum += values[static_cast<std::size_t>(i)] * 0.0f;
                      if (std::isnan(sum)) finite.store(false, std::memory_order_relaxed);
                    });
  if (finite.load()) return {};
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      return bad_data(fmt::format("element {} is {}, weights must be finite", i, values[i]),
                      "the checkpoint is damaged, or training diverged");
    }
  }
  return {};
}

void transpose(ThreadPool& pool, const Matrix& from, Matrix& to) {
  constexpr std::int64_t kTile = 32;
  pool.parallel_for(to.rows(), kTile, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t c0 = 0; c0 < to.cols(); c0 += kTile) {
      for (std::int64_t r = first; r < last; ++r) {
        for (std::int64_t c = c0; c < std::min(c0 + kTile, to.cols()); ++c) to.at(r, c) = from.at(c, r);
      }
    }
  });
}

Result<Tensor> load_float_tensor(const Checkpoint& checkpoint, const std::string& name) {
  TRY_ASSIGN(Tensor tensor, checkpoint.load(name));
  if (!is_float(tensor.dtype())) {
    return Error(
               bad_data(fmt::format("dtype is {}, a float type is needed", safetensors_name(tensor.dtype()))))
        .add_context(fmt::format("tensor {}", name));
  }
  return tensor;
}

}  // namespace

void DenseLinear::apply_rows(ThreadPool& pool, const float* x, std::int64_t tokens, std::int64_t first,
                             std::int64_t count, float* y, std::int64_t ldy) const {
  kernels::gemm_nt(pool, tokens, count, info().cols, x, info().cols, weight_.data() + first * info().cols,
                   info().cols, y, ldy);
  if (!bias_.empty()) kernels::add_bias(pool, tokens, count, bias_.data() + first, y, ldy);
}

void StoredLinear::apply_rows(ThreadPool& pool, const float* x, std::int64_t tokens, std::int64_t first,
                              std::int64_t count, float* y, std::int64_t ldy) const {
  constexpr std::int64_t kSlice = 2048;
  const std::int64_t cols = info().cols;
  const std::size_t row_bytes = static_cast<std::size_t>(cols) * dtype_bytes(weight_.dtype());
  Matrix slice = Matrix::for_overwrite(std::min(kSlice, count), cols);
  for (std::int64_t r = 0; r < count; r += kSlice) {
    const std::int64_t rows = std::min(kSlice, count - r);
    const std::byte* bytes = weight_.bytes().data() + static_cast<std::size_t>(first + r) * row_bytes;
    kernels::decode_to_f32(pool, weight_.dtype(), bytes, rows * cols, slice.data());
    kernels::gemm_nt(pool, tokens, rows, cols, x, cols, slice.data(), cols, y + r, ldy);
  }
  if (!bias_.empty()) kernels::add_bias(pool, tokens, count, bias_.data() + first, y, ldy);
}

Matrix StoredLinear::weight() const {
  Matrix matrix = Matrix::for_overwrite(info().rows, info().cols);
  weight_.decode_f32(0, matrix.values());
  return matrix;
}

LinearInfo linear_info(const ModuleInfo& module) {
  return {module.name, module.rows, module.cols, module.role, module.block, module.expert, module.stage};
}

Result<Matrix> load_matrix(const Context& context, const Checkpoint& checkpoint, const std::string& name,
                           std::int64_t rows, std::int64_t cols, bool transposed) {
  TRY_ASSIGN(const Tensor tensor, load_float_tensor(checkpoint, name));
  const Shape wanted = transposed ? Shape{cols, rows} : Shape{rows, cols};
  if (tensor.shape() != wanted) {
    return Error(bad_data(
                     fmt::format("shape is {}, {} is needed", to_string(tensor.shape()), to_string(wanted))))
        .add_context(fmt::format("tensor {}", name));
  }
  Matrix stored = Matrix::for_overwrite(wanted[0], wanted[1]);
  if (kernels::is_convertible(tensor.dtype())) {
    kernels::decode_to_f32(context.pool, tensor.dtype(), tensor.bytes().data(), tensor.size(), stored.data());
  } else {
    tensor.decode_f32(0, stored.values());
  }
  checkpoint.release(name);
  TRY(check_finite(context.pool, stored.values()).at(fmt::format("tensor {}", name)));
  if (!transposed) return stored;
  Matrix matrix = Matrix::for_overwrite(rows, cols);
  transpose(context.pool, stored, matrix);
  return matrix;
}

Result<std::vector<float>> load_vector(const Checkpoint& checkpoint, const std::string& name) {
  TRY_ASSIGN(const Tensor tensor, load_float_tensor(checkpoint, name));
  std::vector<float> values = tensor.to_f32();
  for (const float value : values) {
    if (!std::isfinite(value)) {
      return Error(bad_data(fmt::format("it holds {}, weights must be finite", value)))
          .add_context(fmt::format("tensor {}", name));
    }
  }
  return values;
}

Result<std::unique_ptr<Linear>> load_linear(const Context& context, const Checkpoint& checkpoint,
                                            const ModuleInfo& module) {
  std::vector<float> bias;
  if (!module.bias.empty()) {
    TRY_ASSIGN(bias, load_vector(checkpoint, module.bias));
  }
  TRY_ASSIGN(Matrix weight,
             load_matrix(context, checkpoint, module.weight, module.rows, module.cols, module.transposed));
  std::unique_ptr<Linear> linear =
      std::make_unique<DenseLinear>(linear_info(module), std::move(weight), std::move(bias));
  return linear;
}

}  // namespace nibble
