// SPDX-License-Identifier: Apache-2.0
// The vocabulary inside a GGUF file, as the text layer takes it and as files of a Hugging Face folder.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/json_fwd.h"
#include "checkpoint/gguf.h"
#include "text/tokenizer.h"

namespace nibble {

// Errors name a key of the wrong type.
Result<GgufVocabulary> gguf_vocabulary(const GgufFile& file);

// tokenizer.json, tokenizer_config.json and generation_config.json: name and text. `config` is config.json.
Result<std::vector<std::pair<std::string, std::string>>> gguf_companion_files(const GgufFile& file,
                                                                              const Json& config);

}  // namespace nibble
