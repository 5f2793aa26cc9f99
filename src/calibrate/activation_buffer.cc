// SPDX-License-Identifier: Apache-2.0
#include "calibrate/activation_buffer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "base/file.h"

namespace nibble {
namespace {

// A file without a name in `folder`: created and unlinked at once.
Result<int> open_nameless_file(const std::filesystem::path& folder) {
  std::string name = (folder / "nibble-activations-XXXXXX").string();
  const int descriptor = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor < 0) {
    return cannot_create(
        fmt::format("cannot create a spill file in {}: {}", folder.string(), std::strerror(errno)),
        "name a writable folder with --spill-dir, or raise --memory-budget");
  }
  ::unlink(name.c_str());
  return descriptor;
}

Result<float*> map_spill_file(std::size_t bytes, const std::filesystem::path& folder) {
  TRY_ASSIGN(const std::uint64_t free_bytes, free_disk_bytes(folder));
  if (bytes > free_bytes) {
    return cannot_create(
        fmt::format("the activation cache needs {} bytes on disk, {} has {} free", bytes, folder.string(),
                    free_bytes),
        "use fewer or shorter calibration samples, raise --memory-budget, or free disk space");
  }
  TRY_ASSIGN(const int descriptor, open_nameless_file(folder));
  // Blocks are taken now: a full disk is an error here and not a SIGBUS later.
  const int reason = ::posix_fallocate(descriptor, 0, static_cast<off_t>(bytes));
  void* memory = MAP_FAILED;
  if (reason == 0) memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  const int map_reason = reason != 0 ? reason : errno;
  ::close(descriptor);
  if (memory == MAP_FAILED) {
    return cannot_create(
        fmt::format("cannot map {} bytes in {}: {}", bytes, folder.string(), std::strerror(map_reason)));
  }
  return static_cast<float*>(memory);
}

}  // namespace

Result<ActivationBuffer> ActivationBuffer::create(std::int64_t rows, std::int64_t cols, MemoryBudget& budget,
                                                  const std::filesystem::path& spill_folder) {
  CHECK(rows >= 0 && cols > 0, "an activation buffer has columns");
  const auto bytes = static_cast<std::size_t>(rows * cols) * sizeof(float);
  if (bytes == 0) return ActivationBuffer(rows, cols, nullptr, &budget);
  if (!budget.reserve(bytes)) {
    TRY_ASSIGN(float* const spilled, map_spill_file(bytes, spill_folder));
    return ActivationBuffer(rows, cols, spilled, nullptr);
  }
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    budget.give_back(bytes);
    throw std::bad_alloc();
  }
  ::madvise(memory, bytes, MADV_HUGEPAGE);
  return ActivationBuffer(rows, cols, static_cast<float*>(memory), &budget);
}

ActivationBuffer::ActivationBuffer(ActivationBuffer&& other) noexcept
    : rows_(std::exchange(other.rows_, 0)),
      cols_(other.cols_),
      data_(std::exchange(other.data_, nullptr)),
      budget_(other.budget_) {}

ActivationBuffer& ActivationBuffer::operator=(ActivationBuffer&& other) noexcept {
  std::swap(rows_, other.rows_);
  std::swap(cols_, other.cols_);
  std::swap(data_, other.data_);
  std::swap(budget_, other.budget_);
  return *this;
}

ActivationBuffer::~ActivationBuffer() {
  if (data_ == nullptr) return;
  ::munmap(data_, byte_size());
  if (budget_ != nullptr) budget_->give_back(byte_size());
}

void ActivationBuffer::release(std::int64_t first, std::int64_t count) const {
  if (!is_spilled() || count == 0) return;
  // Whole pages only; the pages of a shared mapping keep their content in the file.
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGE_SIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(row(first)) + page - 1) / page * page;
  const auto end = reinterpret_cast<std::uintptr_t>(row(first + count)) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace nibble
