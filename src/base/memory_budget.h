// SPDX-License-Identifier: Apache-2.0
// Bytes that large buffers may take together. Work that would exceed the budget takes a smaller or a
// disk-backed form; results never depend on which.
#pragma once

#include <cstdint>
#include <utility>

namespace nibble {

// Physical memory, cut to the limit of the cgroup (container).
std::uint64_t usable_memory_bytes();
// What a run may take when nothing is said: 80 % of that.
std::uint64_t default_memory_budget_bytes();
// Resident set size of this process now, and its peak so far.
std::uint64_t resident_bytes();
std::uint64_t peak_resident_bytes();
// Gives back what the heap keeps between live allocations. Some milliseconds for a heap of a gigabyte; does
// nothing where the C library has no such call.
void release_free_heap();

class MemoryBudget {
 public:
  explicit MemoryBudget(std::uint64_t total_bytes) : total_(total_bytes) {}

  // Takes `bytes` when they fit.
  bool reserve(std::uint64_t bytes) {
    if (bytes > total_ - used_) return false;
    used_ += bytes;
    return true;
  }
  void give_back(std::uint64_t bytes) { used_ -= bytes; }
  std::uint64_t total_bytes() const { return total_; }
  std::uint64_t free_bytes() const { return total_ - used_; }

 private:
  std::uint64_t total_;
  std::uint64_t used_ = 0;
};

}  // namespace nibble
