// SPDX-License-Identifier: Apache-2.0
// Pruning masks: matrices of 1 (kept) and 0 (pruned), chosen by scores with exact counts. Equal scores are
// pruned in the order rows, columns, so a mask never depends on threads.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"
#include "base/thread_pool.h"

namespace nibble {

// What to prune: a share of all weights, or `zeros` of every `group` consecutive inputs ("n:m").
struct PrunePattern {
  double sparsity = 0.5;
  int zeros = 0;
  int group = 0;  // 0: unstructured

  bool is_structured() const { return group > 0; }
  double target() const { return is_structured() ? static_cast<double>(zeros) / group : sparsity; }
};

double zero_share(const Matrix& weight);

// "0:0" (unstructured, `sparsity` holds), "2:4", "4:8" ...
Result<PrunePattern> parse_mask_structure(std::string_view text, double sparsity);

// That the pattern makes sense and that its groups divide the columns.
Status check_pattern(const PrunePattern& pattern, std::int64_t cols);

// 1 where the weight is not zero.
Matrix nonzero_mask(const Matrix& weight);

namespace solver {

// The element at index `rank` of sorted values that need not be in memory together: count() all of them,
// narrow(), count() all of them again, narrow(). Values are >= 0 and not NaN. Exact and independent of the
// order of values.
class RankSelection {
 public:
  explicit RankSelection(std::int64_t rank) : left_(rank), rank_(rank), bins_(kBins) {}
  void count(ThreadPool& pool, std::span<const float> values);
  void narrow();
  float value() const;                                    // after both passes
  std::int64_t smaller() const { return rank_ - left_; }  // how many values are smaller

 private:
  static constexpr std::size_t kBins = 1 << 16;
  std::int64_t left_, rank_;
  std::uint32_t high_ = 0, low_ = 0;
  int pass_ = 0;
  std::vector<std::int64_t> bins_;
};

// Keeps scores above the limit; of those equal to it, `ties` are pruned and counted down.
Matrix keep_above(const Matrix& scores, float limit, std::int64_t& ties);

// Keeps all but the `pruned` smallest scores of the whole matrix.
Matrix keep_largest(ThreadPool& pool, const Matrix& scores, std::int64_t pruned);

// Keeps all but the `pruned` smallest scores of every row.
Matrix keep_largest_in_rows(ThreadPool& pool, const Matrix& scores, std::int64_t pruned);

// Keeps all but the `zeros` smallest scores of every `group` consecutive columns: of one row, of all.
void keep_largest_in_row(std::span<const float> scores, int zeros, int group, std::span<float> keep);
Matrix keep_largest_in_groups(ThreadPool& pool, const Matrix& scores, int zeros, int group);

// The mask of a pattern for non-negative scores; the count over the matrix is the rounded target.
Matrix keep_by_scores(ThreadPool& pool, const Matrix& scores, const PrunePattern& pattern);

}  // namespace solver
}  // namespace nibble
