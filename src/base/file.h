// SPDX-License-Identifier: Apache-2.0
// Files: read-only mappings, whole-file reads with a size limit, and durable writes (write, fsync, rename,
// fsync of the folder), so that a crash leaves either the old file or the new one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace nibble {

// Shared: tensors that view the bytes keep the mapping alive.
class MappedFile {
 public:
  // An empty file maps to an empty span. The error names the path and the reason of the system.
  static Result<std::shared_ptr<const MappedFile>> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::uint64_t size() const { return size_; }
  // Tells the kernel that [offset, offset + length) will be read soon, or is not needed any more.
  void will_need(std::uint64_t offset, std::uint64_t length) const;
  void drop(std::uint64_t offset, std::uint64_t length) const;

 private:
  MappedFile(std::filesystem::path path, const std::byte* data, std::size_t size)
      : path_(std::move(path)), data_(data), size_(size) {}
  std::filesystem::path path_;
  const std::byte* data_;
  std::size_t size_;
};

inline constexpr std::uint64_t kMaxTextFile = std::uint64_t{1} << 30;
Result<std::string> read_text_file(const std::filesystem::path& path, std::uint64_t limit = kMaxTextFile);
Status write_file_durably(const std::filesystem::path& path, std::string_view content);
Status sync_folder(const std::filesystem::path& folder);
// Renames a synced file or folder and syncs the parent of `to`.
Status rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);

// A sequential writer of one big file. Nothing is visible as finished until close() has synced it; the caller
// renames. The destructor of an unclosed writer closes the descriptor and leaves the partial file.
class FileWriter {
 public:
  static Result<FileWriter> create(const std::filesystem::path& path);
  // For a file that exists already; its content stays.
  static Result<FileWriter> reopen(const std::filesystem::path& path);
  FileWriter(FileWriter&& other) noexcept;
  FileWriter& operator=(FileWriter&& other) noexcept;
  ~FileWriter();

  Status write(std::span<const std::byte> bytes);
  // Writes at an absolute offset without moving the end position.
  Status write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  // Makes the file `bytes` long and reserves the space where the file system can, so that a full disk shows
  // now.
  Status reserve(std::uint64_t bytes);
  // Starts to bring a written range to the disk, and does not wait for it: less is left for sync() and
  // close().
  void start_sync(std::uint64_t offset, std::uint64_t length);
  Status sync();  // fdatasync; the file stays open
  std::uint64_t position() const { return position_; }
  Status close();  // fsync and close

 private:
  FileWriter(std::filesystem::path path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t position_ = 0;
};

// Bytes that can still be written to the file system of `path` (its nearest existing parent).
Result<std::uint64_t> free_disk_bytes(const std::filesystem::path& path);

// a + b and a * b with overflow reported; sizes from files go through these.
Result<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b);
Result<std::uint64_t> checked_multiply(std::uint64_t a, std::uint64_t b);

}  // namespace nibble
