// SPDX-License-Identifier: Apache-2.0
// Online softmax over the vector vocabulary; each level's unit includes it after its simd header.
#pragma once

#include <cstdint>

#include "kernels/attention/table.h"
#include "kernels/simd/math.h"

namespace nibble::kernels::attention {
namespace {

// Scores after cap and mask; returns the largest of each lane.
NIBBLE_SIMD F mask_scores(const Block& block, float* scores, F largest) {
  const F lowest = broadcast(-__builtin_inff());
  const F cap = broadcast(block.soft_cap);
  const I before_first = load_i32(block.begin) - broadcast(1), end = load_i32(block.end);
  for (std::int32_t j = 0; j < block.keys; ++j) {
    float* row = scores + std::int64_t{j} * kLanes;
    F s = load(row);
    if (block.soft_cap > 0.0f) s = cap * tanh(s / cap);
    if (block.masked) {
      s = select(broadcast(j) > before_first, select(end > broadcast(j), s, lowest), lowest);
      if (block.key_mask != nullptr && block.key_mask[j] == 0) s = lowest;
    }
    store(row, s);
    largest = max(largest, s);
  }
  return largest;
}

bool softmax_block(const Block& block, float* scores, State& state, float* factor) {
  const F lowest = broadcast(-__builtin_inff());
  const F before = load(state.largest);
  F largest = before;
  if (block.masked || block.soft_cap > 0.0f) {
    largest = mask_scores(block, scores, largest);
  } else {
    for (std::int32_t j = 0; j < block.keys; ++j)
      largest = max(largest, load(scores + std::int64_t{j} * kLanes));
  }
  // A lane that has seen no key keeps -infinity; subtracting 0 there makes its exponentials 0 instead of NaN.
  const F shift = select(lowest < largest, largest, broadcast(0.0f));
  F sum = broadcast(0.0f);
  for (std::int32_t j = 0; j < block.keys; ++j) {
    float* row = scores + std::int64_t{j} * kLanes;
    const F e = exp(load(row) - shift);
    sum = sum + e;
    store(row, e);
  }
  store(state.largest, largest);
  const F change = exp(before - shift);
  store(factor, change);
  alignas(64) float added[kLanes];
  store(added, sum);
  bool changed = false;
  for (int i = 0; i < kLanes; ++i) {
    state.sum[i] = state.sum[i] * static_cast<double>(factor[i]) + static_cast<double>(added[i]);
    changed = changed || factor[i] != 1.0f;
  }
  return changed;
}

void rescale(std::int64_t rows, const float* factor, float* x) {
  const F f = load(factor);
  for (std::int64_t i = 0; i < rows; ++i) store(x + i * kLanes, load(x + i * kLanes) * f);
}

void finish(std::int64_t rows, const float* x, const State& state, int count, float* const* out) {
  for (int lane = 0; lane < count; ++lane) {
    const float inverse = state.sum[lane] == 0.0 ? 0.0f : static_cast<float>(1.0 / state.sum[lane]);
    for (std::int64_t i = 0; i < rows; ++i) out[lane][i] = x[i * kLanes + lane] * inverse;
  }
}

constexpr Kernels make_kernels() {
  return {softmax_block, rescale, finish};
}

}  // namespace
}  // namespace nibble::kernels::attention
