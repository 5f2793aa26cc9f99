// SPDX-License-Identifier: Apache-2.0
#include "calibrate/token_chunks.h"

namespace nibble {
namespace {

// An empty mask means that all tokens count; a joined one is written out when either part has padding.
void append_mask(Batch& to, std::int64_t tokens_before, const Batch& from) {
  if (to.mask.empty() && from.mask.empty()) return;
  to.mask.resize(static_cast<std::size_t>(tokens_before), 1);
  if (from.mask.empty()) {
    to.mask.resize(static_cast<std::size_t>(tokens_before + from.tokens()), 1);
  } else {
    to.mask.insert(to.mask.end(), from.mask.begin(), from.mask.end());
  }
}

}  // namespace

std::vector<Chunk> make_chunks(std::span<const Batch> batches, std::int64_t most_tokens,
                               std::span<const std::vector<std::uint8_t>> loss_masks) {
  CHECK(loss_masks.empty() || loss_masks.size() == batches.size(), "a loss mask a batch");
  std::vector<Chunk> chunks;
  std::int64_t row = 0;
  std::int64_t sequence = 0;
  for (const Batch& batch : batches) {
    const bool joins = !chunks.empty() && chunks.back().batch.length == batch.length &&
                       chunks.back().rows() + batch.tokens() <= most_tokens;
    if (joins) {
      Batch& open = chunks.back().batch;
      append_mask(open, open.tokens(), batch);
      open.ids.insert(open.ids.end(), batch.ids.begin(), batch.ids.end());
      open.sequences += batch.sequences;
    } else {
      chunks.push_back(
          {.batch = batch, .first_row = row, .first_sequence = sequence, .batch_rows = {}, .loss_mask = {}});
    }
    if (!loss_masks.empty()) {
      const auto& mask = loss_masks[static_cast<std::size_t>(&batch - batches.data())];
      chunks.back().loss_mask.insert(chunks.back().loss_mask.end(), mask.begin(), mask.end());
    }
    chunks.back().batch_rows.push_back(batch.tokens());
    row += batch.tokens();
    sequence += batch.sequences;
  }
  return chunks;
}

}  // namespace nibble
