// SPDX-License-Identifier: Apache-2.0
// Everything of the output but the weights: files that travel with the model, byte for byte, and those a run
// writes.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/output_directory.h"

namespace nibble {

// Names of the files that make a tokenizer, and of those that prepare images, sound and video.
std::span<const std::string_view> tokenizer_files();
std::span<const std::string_view> processor_files();

class SmallFiles {
 public:
  SmallFiles(const Checkpoint& source, OutputDirectory& output) : source_(source), output_(output) {}

  // Tokenizer, generation config, licences and the like. A `tokenizer` or `processor` folder that is not
  // empty gives its files instead of the source; a GGUF source gives them converted.
  Status copy_companions(const std::string& tokenizer, const std::string& processor);
  Status write(std::string_view name, std::string_view content);

  const std::vector<std::string>& copied() const { return copied_; }
  const std::vector<std::pair<std::string, std::uint64_t>>& written() const { return written_; }

 private:
  Status copy_among(const std::filesystem::path& folder, std::span<const std::string_view> names);
  Status convert_gguf(bool has_other_tokenizer);

  const Checkpoint& source_;
  OutputDirectory& output_;
  std::vector<std::string> copied_;
  std::vector<std::pair<std::string, std::uint64_t>> written_;
};

}  // namespace nibble
