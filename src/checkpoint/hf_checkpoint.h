// SPDX-License-Identifier: Apache-2.0
// Checkpoint over safetensors files: a Hugging Face folder (one file, or shards with an index) or a lone
// file.
#pragma once

#include <filesystem>
#include <memory>

#include "checkpoint/checkpoint.h"

namespace nibble {

Result<std::unique_ptr<Checkpoint>> open_safetensors_file(const std::filesystem::path& file);

// A folder with model.safetensors or model.safetensors.index.json. The error for any other folder says what
// it holds instead and how to get at it.
Result<std::unique_ptr<Checkpoint>> open_hf_folder(const std::filesystem::path& folder);

// Files at the top of a model folder (and its chat templates) that travel with the weights: everything small
// that is neither weights, nor a weight index, nor config.json. Sorted.
std::vector<std::filesystem::path> companion_files_of(const std::filesystem::path& folder);

}  // namespace nibble
