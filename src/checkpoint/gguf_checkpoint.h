// SPDX-License-Identifier: Apache-2.0
// Checkpoint over a GGUF file or all parts of a split one.
#pragma once

#include <filesystem>
#include <memory>

#include "checkpoint/checkpoint.h"

namespace nibble {

// Tensors of architectures that nibble knows get their Hugging Face names and layouts; others keep their GGUF
// names, so that every valid file can be looked at. A file without tensors (a vocabulary) opens too.
Result<std::unique_ptr<Checkpoint>> open_gguf(const std::filesystem::path& file);

}  // namespace nibble
