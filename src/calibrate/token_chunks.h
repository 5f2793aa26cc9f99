// SPDX-License-Identifier: Apache-2.0
// How calibration tokens go through the model: batches of the user are joined to chunks that keep the matrix
// products busy. Statistics do not depend on where chunks are cut; observers, whose result depends on the
// batches, are told where each begins.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/pass.h"

namespace nibble {

struct Chunk {
  Batch batch;                           // consecutive batches of the user, sequences of equal length
  std::int64_t first_row = 0;            // of its first token among all tokens
  std::int64_t first_sequence = 0;       // among all sequences
  std::vector<std::int64_t> batch_rows;  // tokens of each of the user's batches, in order
  // 1: enters statistics; padding never does. Empty: all but padding.
  std::vector<std::uint8_t> loss_mask;

  // Whether a token enters statistics.
  bool counts(std::size_t row) const {
    const auto& mask = loss_mask.empty() ? batch.mask : loss_mask;
    return mask.empty() || mask[row] != 0;
  }
  std::int64_t rows() const { return batch.tokens(); }
};

// Joins neighbours of equal length up to `most_tokens`; a larger batch stays whole. `loss_masks` is empty or
// has a mask for every batch.
std::vector<Chunk> make_chunks(std::span<const Batch> batches, std::int64_t most_tokens,
                               std::span<const std::vector<std::uint8_t>> loss_masks = {});

}  // namespace nibble
