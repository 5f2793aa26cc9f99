// SPDX-License-Identifier: Apache-2.0
// Expands the tree of an architecture row for one configuration: blocks, experts and heads get their numbers,
// conditional nodes are kept or dropped, and roles give shapes, kinds and stages.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/modules.h"

namespace nibble {

// `is_stored` tells whether the checkpoint has tensors for a module (some nodes are optional).
std::vector<ModuleInfo> module_tree(const ModelConfig& config,
                                    const std::function<bool(const ModuleInfo&)>& is_stored);

// Names under which a checkpoint may store the tensors of a module, most usual first: with or without the
// prefix of the base model, with the names of older versions.
std::vector<std::string> stored_name_candidates(const ModelConfig& config, const ModuleInfo& module);

bool module_has_bias(const ModelConfig& config, const ModuleInfo& module);

// read_model_config() with the file in the error.
Result<ModelConfig> read_checkpoint_config(const Checkpoint& checkpoint);

}  // namespace nibble
