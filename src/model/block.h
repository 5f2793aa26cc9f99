// SPDX-License-Identifier: Apache-2.0
// One decoder or encoder layer: the unit of work, memory and resume (design.md, decision 4). Its forward is a
// sequence of stages, so that calibration can look at the input of a stage, replace its linears, and go on:
//
//   BlockState state = block.start(pass, std::move(hidden));
//   for (int stage = 0; stage < Block::kStages; ++stage) {
//     block.visit_inputs(pass, state, stage, tap);   // statistics of the linears of this stage
//     ... block.replace(...)                         // compressed
//     block.run_stage(pass, state, stage);           // what follows sees the compressed linears
//   }
//   hidden = std::move(state.hidden);
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/linear.h"
#include "model/pass.h"

namespace nibble {

// A norm's parameters; modifiers that fold scales into norms change them. Multiplies by (offset + weight).
struct Norm {
  std::string name;
  ModuleRole role = ModuleRole::kNone;
  std::vector<float> weight, bias;  // may be empty
};

void apply_norm(ThreadPool& pool, const ModelConfig& config, const Norm& norm, std::int64_t rows,
                const float* x, float* y);

// The tokens of one expert.
struct ExpertRows {
  std::vector<std::int32_t> token;  // ascending
  std::vector<float> weight;        // of the expert's output; 0 where the token is only watched
  std::vector<std::uint8_t> mask;   // as Pass::mask; empty when that is null
  Matrix inner;                     // input of the down projection
};

// The activations of one batch between two stages.
struct BlockState {
  Matrix hidden;  // residual stream; the block's output after the last stage
  Matrix input;   // of the next stage's linears (of a mixture's stage 3: of the shared expert)
  std::vector<ExpertRows> experts;  // mixture, between stages 2 and 3
  std::vector<float> shared_gate;   // mixture with a gated shared expert
};

struct AttentionQuantizers;  // quantized/compressed_linear.h

class Block {
 public:
  static constexpr int kStages = 4;  // q k v; attention output; gate, up, router; down

  Block(const ModelConfig& config, int index) : config_(&config), index_(index) {}

  int index() const { return index_; }
  const std::vector<std::unique_ptr<Linear>>& linears() const { return linears_; }  // in module order
  std::vector<Norm>& norms() { return norms_; }
  Linear* linear(std::string_view name);
  const Linear* linear(ModuleRole role, int expert = -1) const;
  const Norm* norm(ModuleRole role, int head = 0) const;
  void replace(std::unique_ptr<Linear> linear);  // the one of the same name, which must exist
  void add(std::unique_ptr<Linear> linear) { linears_.push_back(std::move(linear)); }
  void add(Norm norm) { norms_.push_back(std::move(norm)); }
  std::string attention_name;                                       // "model.layers.3.self_attn"
  std::shared_ptr<const AttentionQuantizers> attention_quantizers;  // null: none

  BlockState start(const Pass& pass, Matrix hidden) const;
  void run_stage(const Pass& pass, BlockState& state, int stage) const;
  // Shows the inputs of a stage's linears to `tap` without applying them.
  void visit_inputs(const Pass& pass, const BlockState& state, int stage, Tap& tap) const;
  // All stages.
  Matrix forward(const Pass& pass, Matrix hidden) const;

 private:
  bool is_mixture() const;
  void run_attention(const Pass& pass, BlockState& state) const;
  void run_attention_output(const Pass& pass, BlockState& state) const;
  void run_mlp_input(const Pass& pass, BlockState& state) const;
  void run_mlp_output(const Pass& pass, BlockState& state) const;
  void run_mixture_input(const Pass& pass, BlockState& state) const;
  void run_mixture_output(const Pass& pass, BlockState& state) const;
  // q, k and v [tokens, width], normed and rotated.
  struct Projected {
    Matrix q, k, v;
  };
  Projected project(const Pass& pass, const Matrix& input) const;
  Projected split_fused(const Pass& pass, const Matrix& fused) const;
  void norm_heads(const Pass& pass, ModuleRole role, std::int64_t heads, Matrix& x) const;
  void round_states(const Pass& pass, Projected& projected) const;
  void append_to_cache(const Pass& pass, const Projected& projected) const;
  Matrix attend_all(const Pass& pass, const Projected& projected) const;
  std::vector<ExpertRows> route(const Pass& pass, const Matrix& input) const;
  Matrix mlp_inner(const Pass& pass, const Linear* gate, const Linear& up, const Matrix& x,
                   const std::uint8_t* mask) const;
  // Adds a sublayer's output to the residual stream, with the norms that stand around the sum.
  void add_to_residual(const Pass& pass, Matrix output, ModuleRole output_norm, ModuleRole residual_norm,
                       Matrix& hidden) const;
  // norm(x), or a copy where the role has no norm.
  Matrix normed(const Pass& pass, ModuleRole role, const Matrix& x) const;

  const ModelConfig* config_;
  int index_;
  std::vector<std::unique_ptr<Linear>> linears_;
  std::vector<Norm> norms_;
};

}  // namespace nibble
