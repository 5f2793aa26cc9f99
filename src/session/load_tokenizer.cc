// SPDX-License-Identifier: Apache-2.0
#include "session/load_tokenizer.h"

#include <fmt/format.h>

namespace nibble {

Result<std::unique_ptr<Tokenizer>> load_tokenizer(const Checkpoint& checkpoint) {
  const std::filesystem::path& path = checkpoint.path();
  const std::filesystem::path folder = std::filesystem::is_directory(path) ? path : path.parent_path();
  return Tokenizer::from_folder(folder).at(fmt::format("tokenizer of {}", path.string()));
}

}  // namespace nibble
