// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

namespace nibble {
namespace {

struct Remedy {
  int reason;
  std::string_view hint;
};
constexpr Remedy kRemedies[] = {
    {EACCES, "its permissions forbid it: change them, or choose another place"},
    {EPERM, "its permissions forbid it: change them, or choose another place"},
    {EROFS, "the file system is read-only: choose another place"},
    {ENOENT, "is the path right? A folder in it may not exist"},
    {ENOTDIR, "a part of the path is a file, not a folder"},
    {ENOSPC, "the disk is full: free some space, or choose another place"},
    {EDQUOT, "your share of the disk is used up: free some space, or choose another place"},
    {EFBIG, "files may not grow that far here: see ulimit -f, or a smaller max_shard_size"},
    {EMFILE, "too many files are open: see ulimit -n"},
};

Error system_error(ErrorCode code, std::string_view action, const std::filesystem::path& path) {
  const int reason = errno;
  const auto* known = std::find_if(std::begin(kRemedies), std::end(kRemedies),
                                   [reason](const Remedy& remedy) { return remedy.reason == reason; });
  const std::string_view hint = known == std::end(kRemedies) ? std::string_view() : known->hint;
  return {code,
          fmt::format("cannot {} {}: {}", action, path.string(), std::strerror(reason)),
          {},
          std::string(hint)};
}

Status write_all(int descriptor, std::span<const std::byte> bytes, std::int64_t offset,
                 const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(descriptor, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return system_error(ErrorCode::kCannotCreate, "write", path);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    offset += written;
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return system_error(ErrorCode::kNoInput, "open", path);
  struct stat info {};
  if (::fstat(descriptor, &info) != 0) {
    Error error = system_error(ErrorCode::kNoInput, "read the size of", path);
    ::close(descriptor);
    return error;
  }
  if (!S_ISREG(info.st_mode)) {
    ::close(descriptor);
    return no_input(fmt::format("{} is not a regular file", path.string()));
  }
  const auto size = static_cast<std::size_t>(info.st_size);
  void* data = nullptr;
  if (size > 0) {
    data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (data == MAP_FAILED) {
      Error error = system_error(ErrorCode::kNoInput, "map", path);
      ::close(descriptor);
      return error;
    }
  }
  ::close(descriptor);
  return std::shared_ptr<const MappedFile>(new MappedFile(path, static_cast<const std::byte*>(data), size));
}

MappedFile::~MappedFile() {
  if (size_ > 0) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::will_need(std::uint64_t offset, std::uint64_t length) const {
  constexpr std::uint64_t kPage = 4096;
  const std::uint64_t first = offset / kPage * kPage;
  const std::uint64_t last = std::min<std::uint64_t>(offset + length, size_);
  if (first < last) ::madvise(const_cast<std::byte*>(data_ + first), last - first, MADV_WILLNEED);
}

void MappedFile::drop(std::uint64_t offset, std::uint64_t length) const {
  constexpr std::uint64_t kPage = 4096;
  const std::uint64_t first = (offset + kPage - 1) / kPage * kPage;  // whole pages inside the range only
  const std::uint64_t last = std::min<std::uint64_t>(offset + length, size_) / kPage * kPage;
  if (first < last) ::madvise(const_cast<std::byte*>(data_ + first), last - first, MADV_DONTNEED);
}

Result<std::string> read_text_file(const std::filesystem::path& path, std::uint64_t limit) {
  std::error_code status;
  if (std::filesystem::is_directory(path, status))
    return no_input(fmt::format("{} is a folder", path.string()));
  std::ifstream file(path, std::ios::binary);
  if (!file) return system_error(ErrorCode::kNoInput, "open", path);
  const std::uint64_t size = std::filesystem::file_size(path, status);
  if (!status && size > limit) {
    return bad_data(fmt::format("{} has {} bytes, at most {} are read", path.string(), size, limit));
  }
  std::string content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad()) return system_error(ErrorCode::kNoInput, "read", path);
  return content;
}

Status sync_folder(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder.empty() ? "." : folder;
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return system_error(ErrorCode::kCannotCreate, "open folder", path);
  const int result = ::fsync(descriptor);
  ::close(descriptor);
  if (result != 0) return system_error(ErrorCode::kCannotCreate, "sync folder", path);
  return {};
}

Status write_file_durably(const std::filesystem::path& path, std::string_view content) {
  const std::filesystem::path temporary = path.string() + ".partial";
  TRY_ASSIGN(FileWriter writer, FileWriter::create(temporary));
  TRY(writer.write(std::as_bytes(std::span(content.data(), content.size()))));
  TRY(writer.close());
  return rename_durably(temporary, path);
}

Status rename_durably(const std::filesystem::path& from, const std::filesystem::path& to) {
  std::error_code status;
  std::filesystem::rename(from, to, status);
  if (status) {
    return cannot_create(
        fmt::format("cannot rename {} to {}: {}", from.string(), to.string(), status.message()));
  }
  return sync_folder(to.parent_path());
}

Result<FileWriter> FileWriter::create(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0) return system_error(ErrorCode::kCannotCreate, "create", path);
  return FileWriter(path, descriptor);
}

Result<FileWriter> FileWriter::reopen(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (descriptor < 0) return system_error(ErrorCode::kCannotCreate, "open for writing", path);
  return FileWriter(path, descriptor);
}

FileWriter::FileWriter(FileWriter&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      position_(other.position_) {}

FileWriter& FileWriter::operator=(FileWriter&& other) noexcept {
  if (this != &other) {
    if (descriptor_ >= 0) ::close(descriptor_);
    path_ = std::move(other.path_);
    descriptor_ = std::exchange(other.descriptor_, -1);
    position_ = other.position_;
  }
  return *this;
}

FileWriter::~FileWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Status FileWriter::write(std::span<const std::byte> bytes) {
  TRY(write_at(position_, bytes));
  position_ += bytes.size();
  return {};
}

Status FileWriter::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  CHECK(descriptor_ >= 0, "write after close");
  return write_all(descriptor_, bytes, static_cast<std::int64_t>(offset), path_);
}

Status FileWriter::reserve(std::uint64_t bytes) {
  CHECK(descriptor_ >= 0, "reserve after close");
  const auto length = static_cast<off_t>(bytes);
  if (::ftruncate(descriptor_, length) != 0) return system_error(ErrorCode::kCannotCreate, "extend", path_);
  // Not posix_fallocate: where the file system cannot reserve, it would write every block.
  if (bytes > 0 && ::fallocate(descriptor_, 0, 0, length) != 0 && errno != EOPNOTSUPP && errno != ENOSYS) {
    return system_error(ErrorCode::kCannotCreate, fmt::format("reserve {} bytes for", bytes), path_);
  }
  return {};
}

// Best effort: what fails here fails again, and is told, in sync() and close().
void FileWriter::start_sync(std::uint64_t offset, std::uint64_t length) {
  CHECK(descriptor_ >= 0, "sync after close");
  ::sync_file_range(descriptor_, static_cast<off64_t>(offset), static_cast<off64_t>(length),
                    SYNC_FILE_RANGE_WRITE);
}

Status FileWriter::sync() {
  CHECK(descriptor_ >= 0, "sync after close");
  if (::fdatasync(descriptor_) == 0) return {};
  return system_error(ErrorCode::kCannotCreate, "sync", path_);
}

Status FileWriter::close() {
  CHECK(descriptor_ >= 0, "closed twice");
  const int descriptor = std::exchange(descriptor_, -1);
  const bool synced = ::fsync(descriptor) == 0;
  const int reason = errno;
  const bool closed = ::close(descriptor) == 0;
  if (synced && closed) return {};
  if (!synced) errno = reason;
  return system_error(ErrorCode::kCannotCreate, "finish", path_);
}

Result<std::uint64_t> free_disk_bytes(const std::filesystem::path& path) {
  std::error_code status;
  std::filesystem::path existing = std::filesystem::absolute(path, status);
  while (!existing.empty() && !std::filesystem::exists(existing, status) && existing.has_relative_path()) {
    existing = existing.parent_path();
  }
  const std::filesystem::space_info info = std::filesystem::space(existing, status);
  if (status)
    return no_input(fmt::format("cannot read the free space of {}: {}", existing.string(), status.message()));
  return static_cast<std::uint64_t>(info.available);
}

Result<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) {
  std::uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum))
    return bad_data(fmt::format("{} + {} does not fit into 64 bits", a, b));
  return sum;
}

Result<std::uint64_t> checked_multiply(std::uint64_t a, std::uint64_t b) {
  std::uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product))
    return bad_data(fmt::format("{} * {} does not fit into 64 bits", a, b));
  return product;
}

}  // namespace nibble
