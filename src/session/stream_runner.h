// SPDX-License-Identifier: Apache-2.0
// Moves the calibration streams through blocks and shows on the way what gatherers want to see.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "calibrate/stream.h"
#include "session/block_work.h"
#include "session/calibration_data.h"
#include "session/gather.h"
#include "session/sublayer_judge.h"

namespace nibble {

// What is gathered about one block of a group; `judge` is null unless it is asked.
struct BlockGathering {
  std::unique_ptr<Gatherer> gatherer;
  std::unique_ptr<BlockJudge> judge;
};

class StreamRunner {
 public:
  struct Settings {
    int streams = 1;
    std::int64_t compared_sequences = 0;  // the first so many also run through the original model
    bool all_experts = true;
    std::int64_t chunk_tokens = 0;  // that go through a block together, at most; 0: one batch
    std::int64_t widest_input = 0;  // of a linear that is no expert's
  };
  // All streams start with the embeddings. `model` and `context` must outlive the runner.
  static Result<std::unique_ptr<StreamRunner>> create(Context& context, Transformer& model,
                                                      const CalibrationData& data, Settings settings,
                                                      Stream::Place place);

  // Runs a stream from where it stands through `stages` of the blocks (all stages when there are several) and
  // lets the gatherers see them. `may_stay`: the stream may rest at the first of the stages, since nothing
  // will ask for an earlier one. `moves_on`: it goes to the output of the last block in the same pass.
  Status gather(int stream, std::span<BlockWork> blocks, const std::vector<int>& stages,
                std::span<BlockGathering> gatherings, bool may_stay, bool moves_on);
  // To the output of the blocks.
  Status move_on(int stream, std::span<BlockWork> blocks);
  Status move_original_on(std::span<BlockWork> blocks);
  // Shows the input of a linear before the first block, or behind the last one, where the stream then stands.
  Status gather_outside(int stream, const ModuleInfo& linear, Gatherer& gatherer);
  // The streams begin once more, after a change of what stands before the first block. The original model's
  // does not.
  Status begin_again();

  std::unique_ptr<BlockJudge> make_judge(Block& block) const;
  std::vector<Stream>& streams() { return streams_; }
  bool has_original() const { return original_.has_value(); }
  Stream& original() { return *original_; }
  const std::vector<Chunk>& chunks() const { return chunks_; }

 private:
  StreamRunner(Context& context, Transformer& model, Settings settings, Stream::Place place)
      : context_(context), model_(model), settings_(settings), place_(std::move(place)) {}
  Status open(const CalibrationData& data);
  Status embed(bool with_original);
  Status check_stop() const;
  void drop_workspace();
  bool is_mixture(const Block& block) const;
  std::int64_t input_width(const Block& block, int stage) const;
  // The state at a stage of the block.
  BlockState at_stage(const Stream& stream, const Pass& pass, const Chunk& chunk, const Block& block,
                      int stage) const;
  Status move_through(Stream& stream, std::size_t chunks, const std::vector<const Block*>& blocks);
  struct Gathering;
  Status gather_chunk(Gathering& g, std::size_t chunk);

  Context& context_;
  Transformer& model_;
  Settings settings_;
  Stream::Place place_;
  std::vector<Chunk> chunks_;
  std::vector<Pass> passes_;
  std::vector<Stream> streams_;
  std::optional<Stream> original_;
  std::size_t compared_chunks_ = 0;  // that it holds
};

}  // namespace nibble
