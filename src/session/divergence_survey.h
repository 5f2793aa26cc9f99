// SPDX-License-Identifier: Apache-2.0
// What it costs the whole model to change one block alone: the KL divergence of its next-token distributions
// from those of the original, block by block, for a few sequences. One walk over the blocks: every block that
// was changed adds a stream of hidden states that goes through the original blocks behind it, so with L
// blocks about L (L + 1) / 2 of them are applied, each is loaded once, and L + 1 streams wait (in memory
// while the budget lasts, then on disk).
#pragma once

#include <memory>
#include <vector>

#include "calibrate/stream.h"
#include "calibrate/token_chunks.h"
#include "model/transformer.h"
#include "session/calibration_data.h"

namespace nibble {

class DivergenceSurvey {
 public:
  static constexpr std::int64_t kSequences = 4;  // the first of the calibration data, at least one batch
  static constexpr std::int64_t kTokens = 2048;  // at most, but for a longer first batch
  static constexpr std::int64_t kEvery = 4;      // tokens whose distributions are compared

  // `model` must predict tokens; it and `context` outlive the survey.
  static Result<std::unique_ptr<DivergenceSurvey>> create(Context& context, Transformer& model,
                                                          const CalibrationData& data, Stream::Place place,
                                                          std::int64_t chunk_tokens);
  // A block as it is in the original model: all streams go on behind it. Blocks come in order.
  Status pass(const Block& original);
  // The same block as it is to be tried, after pass().
  Status try_changed(const Block& changed);
  // Mean KL divergence in nats, in the order of try_changed(). After the last block.
  Result<std::vector<double>> divergences();

 private:
  DivergenceSurvey(Context& context, Transformer& model, Stream::Place place)
      : context_(context), model_(model), place_(std::move(place)) {}
  Status move(Stream& stream, const Block& block);
  std::int64_t rows() const { return chunks_.back().first_row + chunks_.back().rows(); }
  Matrix compared_rows(const Stream& stream, std::size_t chunk) const;

  Context& context_;
  Transformer& model_;
  Stream::Place place_;
  std::vector<Chunk> chunks_;
  std::vector<Pass> passes_;
  std::vector<Stream> streams_;   // the original, then one a try
  std::optional<Stream> before_;  // the original's at the input of the block that passed last
};

}  // namespace nibble
