// SPDX-License-Identifier: Apache-2.0
// What flows through the blocks: a batch of token ids, the pass that a forward makes with it, and the cache
// of keys and values that generation keeps.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/context.h"
#include "base/tensor.h"
#include "model/config.h"
#include "model/linear.h"

namespace nibble {

using TokenId = std::int32_t;

// `sequences` rows of `length` tokens. Token t of sequence s is ids[s * length + t]; activations are
// [sequences * length, hidden] in the same order.
struct Batch {
  std::int64_t sequences = 1;
  std::int64_t length = 0;
  std::vector<TokenId> ids;
  std::vector<std::uint8_t> mask;         // 1 counts, 0 is padding; empty: all count
  std::vector<std::int32_t> token_types;  // empty: all 0
  std::vector<std::int32_t> positions;    // empty: the model's own rule

  std::int64_t tokens() const { return sequences * length; }
  static Batch of(std::vector<TokenId> ids);  // one sequence
};

// Keys and values of the tokens seen so far, for every block: [sequences][capacity][kv_width], rotated.
class KvCache {
 public:
  KvCache(const ModelConfig& config, std::int64_t sequences, std::int64_t capacity);

  std::int64_t sequences() const { return sequences_; }
  std::int64_t capacity() const { return capacity_; }
  std::int64_t length() const { return length_; }             // tokens a sequence holds
  void set_length(std::int64_t length) { length_ = length; }  // shorter: forget the last ones
  float* keys(int block, std::int64_t sequence);
  float* values(int block, std::int64_t sequence);

 private:
  std::int64_t sequences_, capacity_, width_, length_ = 0;
  std::vector<Matrix> keys_, values_;  // by block
};

// Matrices of past shapes, to be used again: a fresh one of some megabytes costs page faults and zeroing, as
// much as a tenth of the product that fills it. Contents are arbitrary. For one thread.
class Workspace {
 public:
  Matrix take(std::int64_t rows, std::int64_t cols);
  void give(Matrix matrix);

 private:
  std::vector<Matrix> free_;
};

// cos and sin of a rope for the positions [first, first + rows).
struct RopeTable {
  std::int64_t dims = 0;
  Matrix cos, sin;  // [positions, dims / 2]
};

// Inverse frequencies for positions below `sequence_length`; the dynamic kinds depend on it.
std::vector<float> rope_frequencies(const RopeConfig& rope, std::int64_t sequence_length);
RopeTable rope_table(const RopeConfig& rope, std::int64_t first, std::int64_t rows);

// One forward of one batch. Made by Transformer::begin(); blocks read it.
struct Pass {
  const Context* context = nullptr;
  std::int64_t sequences = 0, length = 0;
  const std::uint8_t* mask = nullptr;   // [tokens] or null
  std::vector<std::int32_t> rope_rows;  // row of the rope tables for every token
  std::vector<RopeTable> ropes;         // as in ModelConfig::ropes
  KvCache* cache = nullptr;
  Tap* tap = nullptr;
  std::shared_ptr<Workspace> workspace = std::make_shared<Workspace>();
  DType dtype = DType::kF32;  // what every operation's result is rounded to (stored_precision.h)
  bool all_experts = false;   // every expert sees every token (statistics only; the output does not change)

  std::int64_t tokens() const { return sequences * length; }
  ThreadPool& pool() const { return context->pool; }
  Matrix take(std::int64_t rows, std::int64_t cols) const { return workspace->take(rows, cols); }
  void give(Matrix matrix) const { workspace->give(std::move(matrix)); }
};

}  // namespace nibble
