// SPDX-License-Identifier: Apache-2.0
// Judges candidates for the weights of a sublayer by its outputs on all calibration tokens. The inputs are
// kept while the statistics of the block are gathered; the outputs of the unchanged sublayer are computed
// once.
#pragma once

#include <map>
#include <vector>

#include "calibrate/stream.h"
#include "modify/modifier.h"

namespace nibble {

class BlockJudge final : public SublayerJudge {
 public:
  // `block` may change only inside output_error(). The passes are those of the chunks.
  BlockJudge(const ModelConfig& config, Block& block, const std::vector<Chunk>& chunks,
             const std::vector<Pass>& passes, Stream::Place place)
      : config_(config), block_(block), chunks_(chunks), passes_(passes), place_(std::move(place)) {}

  // The input of a sublayer, for one chunk.
  Status keep(int first_stage, const Chunk& chunk, const Matrix& input);

  Result<double> output_error(int first_stage, std::span<const Replacement> replacements) override;

 private:
  struct Sublayer {
    std::optional<ActivationBuffer> input, output;
    bool has_output = false;
  };
  Matrix run(int first_stage, std::size_t chunk, const ActivationBuffer& input) const;
  Status remember_output(int first_stage, Sublayer& sublayer);
  double distance(int first_stage, const Sublayer& sublayer) const;

  const ModelConfig& config_;
  Block& block_;
  const std::vector<Chunk>& chunks_;
  const std::vector<Pass>& passes_;
  Stream::Place place_;
  std::map<int, Sublayer> sublayers_;
};

}  // namespace nibble
