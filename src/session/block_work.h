// SPDX-License-Identifier: Apache-2.0
// A block in work: its operators for the forward, and its modules for the modifiers. Both hold the weights in
// the precision in which they will be stored.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/transformer.h"
#include "session/module_output.h"

namespace nibble {

struct BlockWork {
  std::string name;  // "model.layers.3"
  std::unique_ptr<Block> block;
  std::unique_ptr<Block> original;  // computes what the source does; null unless a modifier compares with it
  std::vector<ModuleWork> modules;  // linears, norms and the attention, in module order
};

Result<BlockWork> load_block_work(Context& context, const Transformer& transformer, const ModelState& state,
                                  const ModuleOutput& output, int index, bool keep_original);

// The forward sees what the modifiers made of the module: codes as a runtime would decode them.
Status put_back(Context& context, Block& block, const ModuleWork& work);

// The same as an operator of its own, for linears outside of blocks.
Result<std::unique_ptr<Linear>> linear_of(Context& context, const ModuleWork& work);

// The same for the block of the original model, which is run but never changed in place: its weights stay in
// the stored form and are decoded as they are used.
void put_back_original(Block& original, const ModuleWork& work);

}  // namespace nibble
