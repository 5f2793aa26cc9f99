// SPDX-License-Identifier: Apache-2.0
// Activations of all calibration tokens at one point of the model: fp32 [rows, cols], in memory while the
// budget lasts, then in an unlinked file (it vanishes with the process, however that ends). Both forms hold
// the same bytes.
#pragma once

#include <cstdint>
#include <filesystem>

#include "base/error.h"
#include "base/memory_budget.h"

namespace nibble {

class ActivationBuffer {
 public:
  // Takes rows * cols * 4 bytes from the budget, or spills to `spill_folder`. The error says how much disk is
  // missing.
  static Result<ActivationBuffer> create(std::int64_t rows, std::int64_t cols, MemoryBudget& budget,
                                         const std::filesystem::path& spill_folder);
  ActivationBuffer(ActivationBuffer&& other) noexcept;
  ActivationBuffer& operator=(ActivationBuffer&& other) noexcept;
  ~ActivationBuffer();

  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  bool is_spilled() const { return budget_ == nullptr; }

  // Valid until the buffer dies; zero until written.
  float* row(std::int64_t r) { return data_ + r * cols_; }
  const float* row(std::int64_t r) const { return data_ + r * cols_; }
  // Rows [first, first + count) are not needed for a while: a spilled buffer lets their pages leave the
  // resident set.
  void release(std::int64_t first, std::int64_t count) const;

 private:
  ActivationBuffer(std::int64_t rows, std::int64_t cols, float* data, MemoryBudget* budget)
      : rows_(rows), cols_(cols), data_(data), budget_(budget) {}
  std::size_t byte_size() const { return static_cast<std::size_t>(rows_ * cols_) * sizeof(float); }

  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
  float* data_ = nullptr;           // an anonymous or a file mapping
  MemoryBudget* budget_ = nullptr;  // null: spilled
};

}  // namespace nibble
