// SPDX-License-Identifier: Apache-2.0
// The reduced tokenizers of tests/golden/tokenizers (see its README.md) as the files they were made from.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "gguf_vocabulary.h"
#include "text/byte_source.h"
#include "text/tokenizer.h"

namespace nibble::testing {

namespace fs = std::filesystem;

inline const fs::path kTokenizerGoldens = fs::path(NIBBLE_SOURCE_DIR) / "tests/golden/tokenizers";

class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::string& name)
      : path_(fs::temp_directory_path() / ("nibble_" + name + "_" + std::to_string(::getpid()))) {
    fs::create_directories(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const fs::path& path() const { return path_; }
  void write(const std::string& file, std::string_view bytes) const {
    std::ofstream(path_ / file, std::ios::binary) << bytes;
  }

 private:
  fs::path path_;
};

// A file of the goldens, unpacked.
inline std::string read_packed(const fs::path& path) {
  const auto source = ByteSource::open(path);
  return read_all(**source, 64 << 20).value();
}

// Lines of U+E000 and a number stand for that many tokens which no golden string contains.
inline std::string expand_placeholders(std::string_view text, bool tiktoken) {
  constexpr std::string_view kMark = "\xEE\x80\x80";
  std::string out;
  std::size_t index = 0;
  const auto put = [&](std::size_t i) {
    std::string line = tiktoken ? "////" : std::string(kMark) + std::to_string(i);
    for (int shift = 28; tiktoken && shift >= 0; shift -= 4)
      line += static_cast<char>('A' + ((i >> shift) & 15));
    out += line + (tiktoken ? " " + std::to_string(i) : "") + "\n";
  };
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    const std::string_view line = text.substr(at, end - at);
    at = end + 1;
    if (!line.starts_with(kMark)) {
      out += std::string(line) + "\n";
      ++index;
      continue;
    }
    for (auto run = std::stoul(std::string(line.substr(kMark.size()))); run > 0; --run) put(index++);
  }
  return out;
}

inline void unpack_folder(const fs::path& packed, const TemporaryFolder& folder) {
  for (const auto& entry : fs::directory_iterator(packed)) {
    if (entry.path().extension() != ".zst") {
      fs::copy_file(entry.path(), folder.path() / entry.path().filename());
      continue;
    }
    const std::string file = entry.path().stem().string();
    const std::string bytes = read_packed(entry.path());
    const bool tiktoken = bytes.starts_with("IQ== 0\n");
    folder.write(file, tiktoken || file == "vocab.txt" ? expand_placeholders(bytes, tiktoken) : bytes);
  }
}

inline Result<std::unique_ptr<Tokenizer>> load_golden_tokenizer(const std::string& name) {
  const fs::path packed = kTokenizerGoldens / name;
  if (fs::exists(packed / "vocab.gguf.zst"))
    return Tokenizer::from_gguf(GgufMetadata(read_packed(packed / "vocab.gguf.zst")).vocabulary());
  const TemporaryFolder folder(name);
  unpack_folder(packed, folder);
  if (name == "opt") unpack_folder(kTokenizerGoldens / "roberta-base", folder);
  return Tokenizer::from_folder(folder.path());
}

// Each line: "text" and, as far as the reference gave them, "ids", "ids_special", "decoded",
// "decoded_skip_special".
inline std::vector<Json> golden_cases(const std::string& name) {
  const std::string text = read_packed(kTokenizerGoldens / "goldens" / (name + ".jsonl.zst"));
  std::vector<Json> cases;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    cases.push_back(parse_json(std::string_view(text).substr(at, end - at)).value());
    at = end + 1;
  }
  return cases;
}

}  // namespace nibble::testing
