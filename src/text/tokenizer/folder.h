// SPDX-License-Identifier: Apache-2.0
// Finds the tokenizer files of a model folder and what the files beside them say about special tokens.
#pragma once

#include <filesystem>

#include "base/error.h"
#include "text/tokenizer/spec.h"

namespace nibble::text {

Result<TokenizerSpec> read_tokenizer_folder(const std::filesystem::path& folder);

}  // namespace nibble::text
