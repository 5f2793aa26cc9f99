// SPDX-License-Identifier: Apache-2.0
// The residual stream of all calibration tokens, at the input of a block or between two of its stages. One
// chunk at a time is taken out, run, and put back at a later point.
#pragma once

#include <filesystem>
#include <optional>

#include "base/error.h"
#include "base/memory_budget.h"
#include "calibrate/activation_buffer.h"
#include "calibrate/token_chunks.h"
#include "model/block.h"

namespace nibble {

class Stream {
 public:
  // Where buffers lie: memory while the budget lasts, then files in `spill_folder`.
  struct Place {
    MemoryBudget& budget;
    std::filesystem::path spill_folder;
  };
  // `widest`: the widest input of a stage that the stream may come to rest at.
  static Result<Stream> create(std::int64_t rows, std::int64_t hidden, std::int64_t widest, Place place);

  std::int64_t rows() const { return hidden_.rows(); }
  // The stage whose input load() gives; 0 at the input of a block.
  int stage() const { return stage_; }

  // The state of a chunk at stage().
  BlockState load(const Pass& pass, const Chunk& chunk, const Block& block) const;
  // The input of the block as it is (stage() 0 only).
  Matrix hidden(const Pass& pass, const Chunk& chunk) const;

  // Moves all chunks to a later point: begin_move; load and put chunk after chunk; end_move. At stage 0 (of
  // the next block) only the hidden states are kept.
  Status begin_move(int stage, std::int64_t input_width);
  void put(const Pass& pass, const Chunk& chunk, const BlockState& state);
  void put_hidden(const Pass& pass, const Chunk& chunk, const Matrix& hidden);
  void end_move();

  // For snapshots.
  ActivationBuffer& buffer() { return hidden_; }
  const ActivationBuffer& buffer() const { return hidden_; }

 private:
  Stream(ActivationBuffer hidden, std::int64_t widest, Place place)
      : hidden_(std::move(hidden)), place_(std::move(place)), widest_(widest) {}

  ActivationBuffer hidden_;
  Place place_;
  std::int64_t widest_;
  // The inputs of one stage after the other: a chunk begins where its rows would if all were `widest_` wide,
  // so that it may be put where it was taken out. Stays from block to block: fresh memory costs more than the
  // copy that fills it.
  std::optional<ActivationBuffer> inputs_;
  int stage_ = 0, next_stage_ = 0;
  std::int64_t input_width_ = 0, next_input_width_ = 0;
};

}  // namespace nibble
