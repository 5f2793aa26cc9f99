// SPDX-License-Identifier: Apache-2.0
// ChannelPermutationModifier (nibble only): before N:M pruning, brings the channels between two linears into
// an order in which the pattern retains more. Rows of what makes the channels and columns of what reads them
// move together, so the model computes the same: up (and gate) with down; v with the attention output, inside
// each head, and equally for all heads that read one value head.
#pragma once

#include "modify/channel_permutation.h"
#include "modify/modifier.h"

namespace nibble {

class ChannelPermutationModifier final : public Modifier {
 public:
  using Modifier::Modifier;
  static Result<std::unique_ptr<Modifier>> make(const ModifierConfig& config);

  Status initialize(ModelState& state) override;
  unsigned needs(const ModelState& state, const ModuleInfo& module) const override;
  Grain grain(const ModelState&) const override { return Grain::kBlock; }
  bool preserves_function() const override { return true; }
  Result<std::vector<LayerReport>> on_sequential_epoch_end(UnitWork& unit, Context& context) override;

 private:
  // Indices into ModelDescription::modules.
  struct Channels {
    std::vector<std::size_t> makers;
    std::size_t reader = 0;
    std::int64_t width = 0;            // channels that may change places among each other
    std::int64_t readers_per_run = 1;  // runs of `width` columns that read the same run of rows
  };
  void find_channels(const ModelDescription& model, int block, std::vector<Channels>& found,
                     std::vector<std::string>& notes) const;
  Result<LayerReport> permute(const Channels& channels, UnitWork& unit, Context& context) const;

  const ModelDescription* model_ = nullptr;
  PrunePattern pattern_;
  std::vector<Channels> channels_;
};

}  // namespace nibble
