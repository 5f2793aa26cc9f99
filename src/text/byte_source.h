// SPDX-License-Identifier: Apache-2.0
// A file read forward in pieces, decompressed on the way if its name ends in .zst: calibration texts are
// often larger than the memory they are worth.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/error.h"

namespace nibble {

class ByteSource {
 public:
  static Result<std::unique_ptr<ByteSource>> open(const std::filesystem::path& path);
  virtual ~ByteSource() = default;
  // Fills the front of `out` and gives the number of bytes; 0 at the end.
  virtual Result<std::size_t> read(std::span<char> out) = 0;
};

// Lines without their ends ("\n" or "\r\n"); a byte order mark at the start is dropped.
class LineReader {
 public:
  explicit LineReader(std::unique_ptr<ByteSource> source) : source_(std::move(source)) {}

  // nullopt at the end. A line beyond the limit is an error: the file is not one of lines.
  Result<std::optional<std::string>> next();
  std::int64_t line_number() const { return line_number_; }  // of the last line given

 private:
  std::unique_ptr<ByteSource> source_;
  std::string buffer_;
  std::size_t begin_ = 0;
  bool at_end_ = false;
  std::int64_t line_number_ = 0;
};

// The whole rest, at most `limit` bytes.
Result<std::string> read_all(ByteSource& source, std::uint64_t limit);

}  // namespace nibble
