// SPDX-License-Identifier: Apache-2.0
// The softmax step of attention on a block of scores, per CPU level. Scores are transposed: [keys][16], a
// lane is a query.
#pragma once

#include <cstdint>

namespace nibble::kernels::attention {

inline constexpr int kLanes = 16;
inline constexpr int kBlockKeys = 64;

// Running state of 16 queries.
struct State {
  float largest[kLanes];  // of the scores so far; -infinity at first
  double sum[kLanes];     // of exp(score - largest)
};

struct Block {
  std::int32_t keys;          // rows of scores
  bool masked;                // lanes see only keys [begin, end) of this block ...
  const std::int32_t* begin;  // [16], relative to the block
  const std::int32_t* end;
  const std::uint8_t* key_mask;  // ... and those whose mask is not 0; null: all
  float soft_cap;                // 0: none
};

struct Kernels {
  // scores -> exp(score - largest so far); state moves on. factor[16]: what earlier sums must be multiplied
  // by; returns false if every factor is 1.
  bool (*softmax_block)(const Block& block, float* scores, State& state, float* factor);
  // x[row][16] *= factor[16].
  void (*rescale)(std::int64_t rows, const float* factor, float* x);
  // out[lane * ld + i] = x[i][lane] / sum[lane] for `count` lanes.
  void (*finish)(std::int64_t rows, const float* x, const State& state, int count, float* const* out);
};

extern const Kernels kPortable;
extern const Kernels kAvx2;
extern const Kernels kAvx512;

const Kernels& kernels();  // of the active level

}  // namespace nibble::kernels::attention
