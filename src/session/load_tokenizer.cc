// SPDX-License-Identifier: Apache-2.0
#include "session/load_tokenizer.h"

#include <fmt/format.h>

#include "checkpoint/gguf.h"
#include "session/gguf_vocabulary.h"

namespace nibble {

Result<std::unique_ptr<Tokenizer>> load_tokenizer(const Checkpoint& checkpoint) {
  const std::filesystem::path& path = checkpoint.path();
  const std::string place = fmt::format("tokenizer of {}", path.string());
  if (checkpoint.gguf() != nullptr) {
    TRY_ASSIGN(const GgufVocabulary vocabulary, gguf_vocabulary(*checkpoint.gguf()).at(place));
    return Tokenizer::from_gguf(vocabulary).at(place);
  }
  return Tokenizer::from_folder(std::filesystem::is_directory(path) ? path : path.parent_path()).at(place);
}

}  // namespace nibble
