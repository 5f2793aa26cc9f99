// SPDX-License-Identifier: Apache-2.0
// The mixture-of-experts half of a block: softmax routing to the top k (Mixtral; Qwen-MoE), one gated MLP an
// expert, an optional shared expert behind a sigmoid gate. Experts are summed in their order, so results do
// not depend on threads.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "kernels/rows.h"
#include "model/apply.h"
#include "model/block.h"
#include "model/stored_precision.h"

namespace nibble {

using enum ModuleRole;

namespace {

Matrix gather_rows(const Matrix& from, const std::vector<std::int32_t>& rows) {
  Matrix out(static_cast<std::int64_t>(rows.size()), from.cols());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(out.row(static_cast<std::int64_t>(i)).data(), from.row(rows[i]).data(),
                from.row(0).size_bytes());
  }
  return out;
}

const std::uint8_t* mask_of(const ExpertRows& rows) {
  return rows.mask.empty() ? nullptr : rows.mask.data();
}

// The k largest probabilities of a row, ties to the lower expert.
void top_k(std::span<const float> probabilities, std::int64_t k, std::vector<std::int32_t>& chosen) {
  chosen.resize(probabilities.size());
  std::iota(chosen.begin(), chosen.end(), 0);
  std::stable_sort(chosen.begin(), chosen.end(), [&](std::int32_t a, std::int32_t b) {
    return probabilities[static_cast<std::size_t>(a)] > probabilities[static_cast<std::size_t>(b)];
  });
  chosen.resize(static_cast<std::size_t>(k));
}

}  // namespace

std::vector<ExpertRows> Block::route(const Pass& pass, const Matrix& input) const {
  const ModelConfig& c = *config_;
  const std::int64_t tokens = input.rows();
  Matrix scores(tokens, c.experts);
  linear(kRouter)->apply(pass.pool(), input.data(), tokens, scores.data());
  settle(pass, scores);
  kernels::softmax(pass.pool(), tokens, c.experts, scores.data(), c.experts, scores.data(), c.experts);

  Matrix weights(tokens, c.experts);
  std::vector<std::int32_t> chosen;
  for (std::int64_t t = 0; t < tokens; ++t) {
    top_k(scores.row(t), c.experts_per_token, chosen);
    float sum = 0;
    for (const std::int32_t e : chosen) sum += scores.at(t, e);
    for (const std::int32_t e : chosen) {
      weights.at(t, e) = c.renormalise_routing ? scores.at(t, e) / sum : scores.at(t, e);
    }
  }
  std::vector<ExpertRows> experts(static_cast<std::size_t>(c.experts));
  for (std::int64_t e = 0; e < c.experts; ++e) {
    ExpertRows& rows = experts[static_cast<std::size_t>(e)];
    for (std::int64_t t = 0; t < tokens; ++t) {
      if (weights.at(t, e) == 0 && !pass.all_experts) continue;
      rows.token.push_back(static_cast<std::int32_t>(t));
      rows.weight.push_back(weights.at(t, e));
      if (pass.mask != nullptr) rows.mask.push_back(pass.mask[t]);
    }
  }
  return experts;
}

void Block::run_mixture_input(const Pass& pass, BlockState& state) const {
  if (pass.tap != nullptr) {
    const Linear& router = *linear(kRouter);
    pass.tap->on_input(router.info(),
                       {state.input.data(), state.input.rows(), state.input.cols(), pass.mask});
  }
  state.experts = route(pass, state.input);
  for (std::size_t e = 0; e < state.experts.size(); ++e) {
    ExpertRows& rows = state.experts[e];
    if (rows.token.empty()) continue;
    const auto expert = static_cast<int>(e);
    const Matrix x = gather_rows(state.input, rows.token);
    rows.inner = mlp_inner(pass, linear(kExpertGate, expert), *linear(kExpertUp, expert), x, mask_of(rows));
  }
  Matrix inner;
  if (const Linear* up = linear(kSharedUp); up != nullptr) {
    const std::int64_t tokens = state.input.rows();
    inner = mlp_inner(pass, linear(kSharedGate), *up, state.input, pass.mask);
    if (const Linear* gate = linear(kSharedRouter); gate != nullptr) {
      state.shared_gate.resize(static_cast<std::size_t>(tokens));
      apply_tapped(pass, *gate, state.input.data(), tokens, pass.mask, state.shared_gate.data());
      for (float& g : state.shared_gate) g = 1.0f / (1.0f + std::exp(-g));
    }
  }
  pass.give(std::move(state.input));
  state.input = std::move(inner);
}

void Block::run_mixture_output(const Pass& pass, BlockState& state) const {
  const std::int64_t width = config_->hidden;
  Matrix output(state.hidden.rows(), width);
  for (std::size_t e = 0; e < state.experts.size(); ++e) {
    const ExpertRows& rows = state.experts[e];
    if (rows.token.empty()) continue;
    Matrix y(rows.inner.rows(), width);
    apply_tapped(pass, *linear(kExpertDown, static_cast<int>(e)), rows.inner.data(), y.rows(), mask_of(rows),
                 y.data());
    for (std::size_t i = 0; i < rows.token.size(); ++i) {
      for (float& value : y.row(static_cast<std::int64_t>(i))) value *= rows.weight[i];
    }
    settle(pass, y);
    for (std::size_t i = 0; i < rows.token.size(); ++i) {
      if (rows.weight[i] == 0) continue;
      float* to = output.row(rows.token[i]).data();
      const float* from = y.row(static_cast<std::int64_t>(i)).data();
      for (std::int64_t j = 0; j < width; ++j) to[j] += from[j];
    }
    settle(pass, output);
  }
  if (const Linear* down = linear(kSharedDown); down != nullptr) {
    Matrix y(state.hidden.rows(), width);
    apply_tapped(pass, *down, state.input.data(), y.rows(), pass.mask, y.data());
    for (std::int64_t t = 0; t < y.rows(); ++t) {
      const float gate = state.shared_gate.empty() ? 1.0f : state.shared_gate[static_cast<std::size_t>(t)];
      for (std::int64_t j = 0; j < width; ++j) y.at(t, j) *= gate;
    }
    settle(pass, y);
    kernels::add_scaled(pass.pool(), y.rows(), width, 1.0f, y.data(), width, output.data(), width);
    settle(pass, output);
  }
  pass.give(std::move(state.input));
  state.experts.clear();
  state.shared_gate.clear();
  add_to_residual(pass, std::move(output), kMlpOutputNorm, kMlpResidualNorm, state.hidden);
}

void Block::visit_inputs(const Pass& pass, const BlockState& state, int stage, Tap& tap) const {
  const std::vector<ExpertRows> routed =
      is_mixture() && stage == 2 ? route(pass, state.input) : std::vector<ExpertRows>();
  for (const auto& linear : linears_) {
    const LinearInfo& info = linear->info();
    if (info.stage != stage) continue;
    if (info.expert < 0) {
      tap.on_input(info, {state.input.data(), state.input.rows(), state.input.cols(), pass.mask});
      continue;
    }
    const ExpertRows& rows = (stage == 2 ? routed : state.experts)[static_cast<std::size_t>(info.expert)];
    if (rows.token.empty()) continue;
    const Matrix gathered = stage == 2 ? gather_rows(state.input, rows.token) : Matrix();
    const Matrix& x = stage == 2 ? gathered : rows.inner;
    tap.on_input(info, {x.data(), x.rows(), x.cols(), mask_of(rows)});
  }
}

}  // namespace nibble
