// SPDX-License-Identifier: Apache-2.0
#include "model/block.h"

#include <algorithm>
#include <cstring>

#include "kernels/rows.h"
#include "model/apply.h"
#include "model/stored_precision.h"

namespace nibble {

using enum ModuleRole;

void apply_norm(ThreadPool& pool, const ModelConfig& config, const Norm& norm, std::int64_t rows,
                const float* x, float* y) {
  apply_norm_columns(pool, config, norm, rows, config.hidden, x, config.hidden, y);
}

void apply_norm_columns(ThreadPool& pool, const ModelConfig& config, const Norm& norm, std::int64_t rows,
                        std::int64_t cols, const float* x, std::int64_t ld, float* y) {
  const float* weight = norm.weight.empty() ? nullptr : norm.weight.data();
  const float* bias = norm.bias.empty() ? nullptr : norm.bias.data();
  const auto eps = static_cast<float>(config.norm_eps);
  if (config.row->norm == NormKind::kRms) {
    kernels::rms_norm(pool, rows, cols, x, ld, weight, static_cast<float>(config.row->norm_offset), eps, y,
                      ld);
  } else {
    kernels::layer_norm(pool, rows, cols, x, ld, weight, bias, eps, y, ld);
  }
}

void apply_tapped(const Pass& pass, const Linear& linear, const float* x, std::int64_t rows,
                  const std::uint8_t* mask, float* y) {
  if (pass.tap != nullptr) pass.tap->on_input(linear.info(), {x, rows, linear.info().cols, mask});
  linear.apply(pass.pool(), x, rows, y);
  settle(pass, rows * linear.info().rows, y);
  if (pass.tap != nullptr) pass.tap->on_output(linear.info(), {y, rows, linear.info().rows, mask});
}

Linear* Block::linear(std::string_view name) {
  for (const auto& linear : linears_) {
    if (linear->info().name == name) return linear.get();
  }
  return nullptr;
}

const Linear* Block::linear(ModuleRole role, int expert) const {
  for (const auto& linear : linears_) {
    if (linear->info().role == role && linear->info().expert == expert) return linear.get();
  }
  return nullptr;
}

const Norm* Block::norm(ModuleRole role, int head) const {
  for (const Norm& norm : norms_) {
    if (norm.role == role && head-- == 0) return &norm;
  }
  return nullptr;
}

void Block::replace(std::unique_ptr<Linear> linear) {
  for (auto& old : linears_) {
    if (old->info().name != linear->info().name) continue;
    old = std::move(linear);
    return;
  }
  CHECK(false, "a block has no linear of that name");
}

bool Block::is_mixture() const {
  return config_->sparse_layer[static_cast<std::size_t>(index_)];
}

Matrix Block::normed(const Pass& pass, ModuleRole role, const Matrix& x) const {
  Matrix y = pass.take(x.rows(), x.cols());
  if (const Norm* found = norm(role); found != nullptr) {
    settled_norm(pass, *config_, *found, x.rows(), x.cols(), x.data(), x.cols(), y.data());
  } else {
    std::memcpy(y.data(), x.data(), x.values().size_bytes());
  }
  return y;
}

void Block::add_to_residual(const Pass& pass, Matrix output, ModuleRole output_norm, ModuleRole residual_norm,
                            Matrix& hidden) const {
  const std::int64_t rows = hidden.rows();
  if (const Norm* found = norm(output_norm); found != nullptr) {
    settled_norm(pass, *config_, *found, rows, output.cols(), output.data(), output.cols(), output.data());
  }
  kernels::add_scaled(pass.pool(), rows, hidden.cols(), 1.0f, output.data(), hidden.cols(), hidden.data(),
                      hidden.cols());
  settle(pass, hidden);
  if (const Norm* found = norm(residual_norm); found != nullptr) {
    settled_norm(pass, *config_, *found, rows, hidden.cols(), hidden.data(), hidden.cols(), hidden.data());
  }
  pass.give(std::move(output));
}

BlockState Block::start(const Pass& pass, Matrix hidden) const {
  BlockState state;
  state.input = normed(pass, kAttentionInputNorm, hidden);
  state.hidden = std::move(hidden);
  return state;
}

void Block::run_stage(const Pass& pass, BlockState& state, int stage) const {
  switch (stage) {
    case 0:
      return run_attention(pass, state);
    case 1:
      return run_attention_output(pass, state);
    case 2:
      return is_mixture() ? run_mixture_input(pass, state) : run_mlp_input(pass, state);
    case 3:
      return is_mixture() ? run_mixture_output(pass, state) : run_mlp_output(pass, state);
    default:
      CHECK(false, "a block has four stages");
  }
}

Matrix Block::forward(const Pass& pass, Matrix hidden) const {
  BlockState state = start(pass, std::move(hidden));
  for (int stage = 0; stage < kStages; ++stage) run_stage(pass, state, stage);
  return std::move(state.hidden);
}

void Block::run_attention_output(const Pass& pass, BlockState& state) const {
  const std::int64_t tokens = state.hidden.rows();
  Matrix output = pass.take(tokens, config_->hidden);
  apply_tapped(pass, *linear(kAttentionOutput), state.input.data(), tokens, pass.mask, output.data());
  pass.give(std::move(state.input));
  // In parallel residual both sublayers read the block's input, so the MLP's is made before the sum.
  if (config_->parallel_residual) {
    const ModuleRole role = config_->row->mlp_reads_attention_input ? kAttentionInputNorm : kMlpInputNorm;
    state.input = normed(pass, role, state.hidden);
  }
  add_to_residual(pass, std::move(output), kAttentionOutputNorm, kAttentionResidualNorm, state.hidden);
  if (!config_->parallel_residual) state.input = normed(pass, kMlpInputNorm, state.hidden);
}

Matrix Block::mlp_inner(const Pass& pass, const Linear* gate, const Linear& up, const Matrix& x,
                        const std::uint8_t* mask) const {
  const std::int64_t width = up.info().rows;
  Matrix inner = pass.take(x.rows(), width);
  if (gate == nullptr) {
    apply_tapped(pass, up, x.data(), x.rows(), mask, inner.data());
    kernels::activate(pass.pool(), config_->activation, x.rows(), width, inner.data(), width, inner.data(),
                      width);
    settle(pass, inner);
    return inner;
  }
  apply_tapped(pass, *gate, x.data(), x.rows(), mask, inner.data());
  Matrix other = pass.take(x.rows(), width);
  apply_tapped(pass, up, x.data(), x.rows(), mask, other.data());
  settled_gate(pass, config_->activation, x.rows(), width, inner.data(), width, other.data(), width,
               inner.data(), width);
  pass.give(std::move(other));
  return inner;
}

void Block::run_mlp_input(const Pass& pass, BlockState& state) const {
  Matrix inner;
  if (const Linear* fused = linear(kGateUp); fused != nullptr) {
    const std::int64_t tokens = state.input.rows();
    const std::int64_t width = fused->info().rows / 2;
    Matrix both = pass.take(tokens, 2 * width);
    apply_tapped(pass, *fused, state.input.data(), tokens, pass.mask, both.data());
    inner = pass.take(tokens, width);
    settled_gate(pass, config_->activation, tokens, width, both.data(), 2 * width, both.data() + width,
                 2 * width, inner.data(), width);
    pass.give(std::move(both));
  } else {
    inner = mlp_inner(pass, linear(kGate), *linear(kUp), state.input, pass.mask);
  }
  pass.give(std::move(state.input));
  state.input = std::move(inner);
}

void Block::run_mlp_output(const Pass& pass, BlockState& state) const {
  Matrix output = pass.take(state.hidden.rows(), config_->hidden);
  apply_tapped(pass, *linear(kDown), state.input.data(), state.hidden.rows(), pass.mask, output.data());
  pass.give(std::move(state.input));
  add_to_residual(pass, std::move(output), kMlpOutputNorm, kMlpResidualNorm, state.hidden);
}

}  // namespace nibble
