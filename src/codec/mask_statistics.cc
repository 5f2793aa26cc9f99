// SPDX-License-Identifier: Apache-2.0
#include "codec/mask_statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/zero_bits.h"

namespace nibble {
namespace {

constexpr std::int64_t kChunk = std::int64_t{1} << 17;  // elements of a task, at least
constexpr std::int64_t kMostChunks = 64;
constexpr double kLeastSparsity = 0.01;  // below it a tensor is called dense

// Counts of one task: whole words go through a histogram of their bytes.
struct Partial {
  std::array<std::array<std::int64_t, 256>, 2> bytes{};  // of even and odd places: fewer waits on one counter
  std::array<std::array<std::int64_t, 33>, kMaskGroups.size()> groups{};
  std::array<std::int64_t, 16> quads{};
  std::int64_t zeros = 0, zero_rows = 0;
  std::vector<std::uint64_t> zero_columns;

  void add_word(std::uint64_t word) {
    if (word == 0) {
      bytes[0][0] += 8;
      groups[2][0] += 4;
      groups[3][0] += 2;
      return;
    }
    zeros += std::popcount(word);
    for (int i = 0; i < 64; i += 16) {
      ++bytes[0][(word >> i) & 255];
      ++bytes[1][(word >> (i + 8)) & 255];
      ++groups[2][static_cast<std::size_t>(std::popcount((word >> i) & 0xffff))];
    }
    for (int i = 0; i < 64; i += 32)
      ++groups[3][static_cast<std::size_t>(std::popcount((word >> i) & 0xffffffff))];
  }

  // The last word of a row with `left` elements in it.
  void add_rest(std::uint64_t word, int left) {
    zeros += std::popcount(word) - (64 - left);
    for (std::size_t g = 0; g < kMaskGroups.size(); ++g) {
      const int group = kMaskGroups[g];
      for (int i = 0; i < left; i += group) {
        const std::uint64_t bits = (word >> i) & ((std::uint64_t{1} << group) - 1);
        ++groups[g][static_cast<std::size_t>(std::popcount(bits))];
        if (group == 4) ++quads[bits];
      }
    }
  }

  void add_row(const std::uint64_t* words, std::int64_t cols) {
    bool all_zero = true;
    for (std::int64_t w = 0; w < cols / 64; ++w) {
      add_word(words[w]);
      zero_columns[static_cast<std::size_t>(w)] &= words[w];
      all_zero &= words[w] == ~std::uint64_t{0};
    }
    if (cols % 64 != 0) {
      const std::uint64_t last = words[cols / 64];
      add_rest(last, static_cast<int>(cols % 64));
      zero_columns[static_cast<std::size_t>(cols / 64)] &= last;
      all_zero &= last == ~std::uint64_t{0};
    }
    zero_rows += all_zero ? 1 : 0;
  }

  void spread_bytes() {
    for (std::size_t value = 0; value < 256; ++value) {
      const std::int64_t n = bytes[0][value] + bytes[1][value];
      groups[1][static_cast<std::size_t>(std::popcount(value))] += n;
      for (const std::size_t quad : {value & 15, value >> 4}) {
        quads[quad] += n;
        groups[0][static_cast<std::size_t>(std::popcount(quad))] += n;
      }
    }
  }
};

Partial count_rows(const Tensor& tensor, std::int64_t cols, std::int64_t first, std::int64_t last) {
  Partial partial;
  const std::int64_t words = kernels::zero_words(cols);
  partial.zero_columns.assign(static_cast<std::size_t>(words), ~std::uint64_t{0});
  std::vector<std::uint64_t> mask(static_cast<std::size_t>(words));
  const auto row_bytes = static_cast<std::size_t>(cols) * dtype_bytes(tensor.dtype());
  for (std::int64_t r = first; r < last; ++r) {
    kernels::zero_bits(tensor.dtype(), tensor.bytes().data() + static_cast<std::size_t>(r) * row_bytes, cols,
                       mask.data());
    partial.add_row(mask.data(), cols);
  }
  partial.spread_bytes();
  return partial;
}

std::size_t group_index(int group) {
  const auto found = std::find(kMaskGroups.begin(), kMaskGroups.end(), group);
  CHECK(found != kMaskGroups.end(), "a size of group that is not counted");
  return static_cast<std::size_t>(found - kMaskGroups.begin());
}

}  // namespace

std::string to_string(const MaskPattern& pattern) {
  return fmt::format("{}:{}", pattern.zeros, pattern.group);
}

double MaskStatistics::sparsity() const {
  return count() > 0 ? static_cast<double>(zeros) / static_cast<double>(count()) : 0.0;
}

bool MaskStatistics::is_exactly_two_of_four() const {
  return count() > 0 && cols % 4 == 0 && groups_exact({2, 4}) == groups_of(4);
}

std::int64_t MaskStatistics::groups_met(const MaskPattern& pattern) const {
  const auto& histogram = groups[group_index(pattern.group)];
  std::int64_t met = 0;
  for (int k = std::max(0, pattern.zeros); k <= pattern.group; ++k)
    met += histogram[static_cast<std::size_t>(k)];
  return met;
}

std::int64_t MaskStatistics::groups_exact(const MaskPattern& pattern) const {
  return groups[group_index(pattern.group)][static_cast<std::size_t>(pattern.zeros)];
}

std::vector<MaskPattern> MaskStatistics::nearest_patterns() const {
  std::vector<MaskPattern> patterns;
  for (const int group : kMaskGroups) {
    const std::int64_t all = groups_of(group);
    if (all == 0) continue;
    const std::int64_t filled_up = all * group - count();
    const int nearest =
        static_cast<int>(std::lround(static_cast<double>(zeros + filled_up) / static_cast<double>(all)));
    if (zeros > 0 && nearest > 0) patterns.push_back({nearest, group});
  }
  return patterns;
}

std::string MaskStatistics::structure() const {
  if (count() > 0 && zeros == count()) return "zero";
  for (const MaskPattern& pattern : nearest_patterns()) {
    if (groups_met(pattern) == groups_of(pattern.group)) return to_string(pattern);
  }
  return sparsity() >= kLeastSparsity ? "unstructured" : "dense";
}

MaskCounter::MaskCounter(std::int64_t cols)
    : zero_columns_(static_cast<std::size_t>(kernels::zero_words(cols)), ~std::uint64_t{0}) {
  statistics_.cols = cols;
}

void MaskCounter::add(const Tensor& rows, ThreadPool& pool) {
  const std::int64_t cols = statistics_.cols;
  if (cols == 0 || rows.size() == 0) return;
  const std::int64_t count = rows.size() / cols;
  const std::int64_t elements = std::max(kChunk, rows.size() / kMostChunks);
  const std::int64_t grain = std::max<std::int64_t>(1, elements / cols);
  std::vector<Partial> partials(static_cast<std::size_t>((count + grain - 1) / grain));
  pool.parallel_for(count, grain, [&](std::int64_t first, std::int64_t last) {
    partials[static_cast<std::size_t>(first / grain)] = count_rows(rows, cols, first, last);
  });
  statistics_.rows += count;
  for (const Partial& partial : partials) {
    statistics_.zeros += partial.zeros;
    statistics_.zero_rows += partial.zero_rows;
    for (std::size_t g = 0; g < kMaskGroups.size(); ++g) {
      for (std::size_t k = 0; k < partial.groups[g].size(); ++k)
        statistics_.groups[g][k] += partial.groups[g][k];
    }
    for (std::size_t q = 0; q < 16; ++q) statistics_.quads[q] += partial.quads[q];
    for (std::size_t w = 0; w < zero_columns_.size(); ++w) zero_columns_[w] &= partial.zero_columns[w];
  }
}

const MaskStatistics& MaskCounter::finish() {
  statistics_.zero_cols = 0;
  if (statistics_.rows == 0) return statistics_;
  for (const std::uint64_t word : zero_columns_) statistics_.zero_cols += std::popcount(word);
  const std::int64_t rest = statistics_.cols % 64;
  if (rest != 0) statistics_.zero_cols -= 64 - rest;
  return statistics_;
}

std::pair<std::int64_t, std::int64_t> mask_shape(const Shape& shape) {
  const bool is_convolution = shape.size() == 4;
  const std::int64_t rows = is_convolution ? shape[0] : 1;
  const std::int64_t cols = shape.empty()                ? 1
                            : is_convolution && rows > 0 ? element_count(shape) / rows
                                                         : shape.back();
  return {cols == 0 ? 0 : element_count(shape) / cols, cols};
}

MaskStatistics mask_statistics(const Tensor& tensor, ThreadPool& pool) {
  MaskCounter counter(mask_shape(tensor.shape()).second);
  counter.add(tensor, pool);
  return counter.finish();
}

std::optional<PatternBreak> first_break(const Tensor& tensor, const MaskPattern& pattern) {
  const auto [rows, cols] = mask_shape(tensor.shape());
  std::vector<std::uint64_t> mask(static_cast<std::size_t>(kernels::zero_words(cols)));
  const auto row_bytes = static_cast<std::size_t>(cols) * dtype_bytes(tensor.dtype());
  for (std::int64_t r = 0; r < rows; ++r) {
    kernels::zero_bits(tensor.dtype(), tensor.bytes().data() + static_cast<std::size_t>(r) * row_bytes, cols,
                       mask.data());
    for (std::int64_t c = 0; c < cols; c += pattern.group) {
      const std::int64_t end = std::min(cols, c + pattern.group);
      int zeros = static_cast<int>(c + pattern.group - end);
      for (std::int64_t i = c; i < end; ++i)
        zeros += static_cast<int>((mask[static_cast<std::size_t>(i / 64)] >> (i % 64)) & 1);
      if (zeros < pattern.zeros) return PatternBreak{r, c, zeros};
    }
  }
  return std::nullopt;
}

}  // namespace nibble
