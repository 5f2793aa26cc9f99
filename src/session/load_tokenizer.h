// SPDX-License-Identifier: Apache-2.0
// The tokenizer of a model: from the files beside it, or from the vocabulary inside a GGUF file.
#pragma once

#include <filesystem>
#include <memory>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "text/tokenizer.h"

namespace nibble {

// Works for checkpoints without tensors too (vocabulary-only GGUF).
Result<std::unique_ptr<Tokenizer>> load_tokenizer(const Checkpoint& checkpoint);

}  // namespace nibble
