// SPDX-License-Identifier: Apache-2.0
#include "modify/solver/mask.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <numeric>

namespace nibble {

double zero_share(const Matrix& weight) {
  const auto zeros = std::ranges::count(weight.values(), 0.0f);
  return static_cast<double>(zeros) / static_cast<double>(weight.values().size());
}

Result<PrunePattern> parse_mask_structure(std::string_view text, double sparsity) {
  PrunePattern pattern{.sparsity = sparsity};
  const std::size_t colon = text.find(':');
  const char* end = text.data() + text.size();
  bool good = colon != std::string_view::npos;
  if (good) {
    const auto zeros = std::from_chars(text.data(), text.data() + colon, pattern.zeros);
    const auto group = std::from_chars(text.data() + colon + 1, end, pattern.group);
    good = zeros.ec == std::errc() && zeros.ptr == text.data() + colon && group.ec == std::errc() &&
           group.ptr == end;
  }
  const bool none = pattern.zeros == 0 && pattern.group == 0;
  if (!good || pattern.zeros < 0 || (!none && (pattern.group < 1 || pattern.zeros > pattern.group))) {
    return usage_error(
        fmt::format("mask_structure \"{}\" is not N:M with N <= M, nor \"0:0\" for unstructured", text),
        "2:4 prunes 2 of every 4 consecutive inputs");
  }
  return pattern;
}

Status check_pattern(const PrunePattern& pattern, std::int64_t cols) {
  if (!pattern.is_structured()) {
    if (pattern.sparsity >= 0 && pattern.sparsity < 1) return {};
    return usage_error(fmt::format("sparsity is {}, allowed: at least 0 and below 1", pattern.sparsity));
  }
  if (cols % pattern.group == 0) return {};
  return usage_error(fmt::format("mask_structure {}:{} needs a number of inputs divisible by {}, found {}",
                                 pattern.zeros, pattern.group, pattern.group, cols),
                     "add the module to `ignore`, or choose another structure");
}

Matrix nonzero_mask(const Matrix& weight) {
  Matrix mask(weight.rows(), weight.cols());
  for (std::int64_t i = 0; i < weight.rows() * weight.cols(); ++i)
    mask.data()[i] = weight.data()[i] == 0 ? 0.0f : 1.0f;
  return mask;
}

namespace solver {
namespace {

constexpr std::int64_t kParts = 16;  // partial histograms, at most

// Bits of a non-negative float order as the float does; -0 counts as 0.
std::uint32_t ordered_bits(float value) {
  return std::bit_cast<std::uint32_t>(value) & 0x7fffffffu;
}

}  // namespace

// Two counting passes over the upper and lower 16 bits.
void RankSelection::count(ThreadPool& pool, std::span<const float> values) {
  const auto count = static_cast<std::int64_t>(values.size());
  const std::int64_t parts = std::clamp<std::int64_t>(count >> 16, 1, kParts);
  const std::int64_t size = (count + parts - 1) / parts;
  std::vector<std::vector<std::int64_t>> partial(static_cast<std::size_t>(parts));
  pool.parallel_for(parts, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t p = first; p < last; ++p) {
      std::vector<std::int64_t>& bins = partial[static_cast<std::size_t>(p)];
      bins.resize(kBins);
      for (std::int64_t i = p * size; i < std::min((p + 1) * size, count); ++i) {
        const std::uint32_t bits = ordered_bits(values[static_cast<std::size_t>(i)]);
        if (pass_ == 0) {
          ++bins[bits >> 16];
        } else if (bits >> 16 == high_) {
          ++bins[bits & 0xffffu];
        }
      }
    }
  });
  for (const auto& bins : partial) {
    for (std::size_t b = 0; b < kBins; ++b) bins_[b] += bins[b];
  }
}

void RankSelection::narrow() {
  std::uint32_t bin = 0;
  while (left_ >= bins_[bin]) {
    left_ -= bins_[bin];
    CHECK(++bin < kBins, "the rank lies inside the values");
  }
  (pass_++ == 0 ? high_ : low_) = bin;
  std::ranges::fill(bins_, 0);
}

float RankSelection::value() const {
  return std::bit_cast<float>(high_ << 16 | low_);
}

Matrix keep_above(const Matrix& scores, float limit, std::int64_t& ties) {
  Matrix keep(scores.rows(), scores.cols());
  for (std::int64_t i = 0; i < scores.rows() * scores.cols(); ++i) {
    const float score = scores.data()[i];
    const bool prune = score < limit || (score == limit && ties-- > 0);
    keep.data()[i] = prune ? 0.0f : 1.0f;
  }
  return keep;
}

Matrix keep_largest(ThreadPool& pool, const Matrix& scores, std::int64_t pruned) {
  const std::int64_t count = scores.rows() * scores.cols();
  if (pruned <= 0 || count == 0) {
    Matrix keep(scores.rows(), scores.cols());
    std::ranges::fill(keep.values(), 1.0f);
    return keep;
  }
  pruned = std::min(pruned, count);
  RankSelection last(pruned - 1);
  for (int pass = 0; pass < 2; ++pass) {
    last.count(pool, scores.values());
    last.narrow();
  }
  std::int64_t ties = pruned - last.smaller();
  return keep_above(scores, last.value(), ties);
}

Matrix keep_largest_in_rows(ThreadPool& pool, const Matrix& scores, std::int64_t pruned) {
  Matrix keep(scores.rows(), scores.cols());
  pruned = std::min(pruned, scores.cols());
  pool.parallel_for(scores.rows(), 16, [&](std::int64_t first, std::int64_t last) {
    std::vector<std::int64_t> order(static_cast<std::size_t>(scores.cols()));
    for (std::int64_t r = first; r < last; ++r) {
      std::iota(order.begin(), order.end(), 0);
      const auto smaller = [&](std::int64_t a, std::int64_t b) {
        return scores.at(r, a) != scores.at(r, b) ? scores.at(r, a) < scores.at(r, b) : a < b;
      };
      std::nth_element(order.begin(), order.begin() + pruned, order.end(), smaller);
      std::ranges::fill(keep.row(r), 1.0f);
      for (std::int64_t i = 0; i < pruned; ++i) keep.at(r, order[static_cast<std::size_t>(i)]) = 0;
    }
  });
  return keep;
}

namespace {

// Ranks by counting; of equal scores the later one is smaller. Without branches: scores come in any order.
void keep_largest_of(const float* score, int size, int zeros, float* keep) {
  for (int c = 0; c < size; ++c) {
    int smaller = 0;
    for (int o = 0; o < c; ++o) smaller += static_cast<int>(score[o] < score[c]);
    for (int o = c + 1; o < size; ++o) smaller += static_cast<int>(score[o] <= score[c]);
    keep[c] = static_cast<float>(smaller >= zeros);
  }
}

constexpr int kGroupsAtOnce = 16;

// The same for `kGroupsAtOnce` groups side by side, four times as fast: the mask search asks for some
// billions.
template <int size>
void keep_largest_of_many(const float* score, int zeros, float* keep) {
  float value[size][kGroupsAtOnce];
  int smaller[size][kGroupsAtOnce] = {};
  for (int l = 0; l < kGroupsAtOnce; ++l) {
    for (int c = 0; c < size; ++c) value[c][l] = score[l * size + c];
  }
  for (int c = 0; c < size; ++c) {
    for (int o = c + 1; o < size; ++o) {
      for (int l = 0; l < kGroupsAtOnce; ++l) {
        const int later_is_smaller = value[o][l] <= value[c][l] ? 1 : 0;
        smaller[c][l] += later_is_smaller;
        smaller[o][l] += 1 - later_is_smaller;
      }
    }
  }
  for (int l = 0; l < kGroupsAtOnce; ++l) {
    for (int c = 0; c < size; ++c) keep[l * size + c] = smaller[c][l] >= zeros ? 1.0f : 0.0f;
  }
}

}  // namespace

void keep_largest_in_row(std::span<const float> scores, int zeros, int group, std::span<float> keep) {
  const auto many = group == 4 ? keep_largest_of_many<4> : group == 8 ? keep_largest_of_many<8> : nullptr;
  const auto cols = static_cast<std::int64_t>(scores.size());
  std::int64_t c = 0;
  for (; many != nullptr && c + kGroupsAtOnce * group <= cols; c += kGroupsAtOnce * group)
    many(scores.data() + c, zeros, keep.data() + c);
  for (; c < cols; c += group) {
    const auto size = static_cast<int>(std::min<std::int64_t>(group, cols - c));
    keep_largest_of(scores.data() + c, size, zeros, keep.data() + c);
  }
}

Matrix keep_largest_in_groups(ThreadPool& pool, const Matrix& scores, int zeros, int group) {
  Matrix keep(scores.rows(), scores.cols());
  pool.parallel_for(scores.rows(), 64, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) keep_largest_in_row(scores.row(r), zeros, group, keep.row(r));
  });
  return keep;
}

Matrix keep_by_scores(ThreadPool& pool, const Matrix& scores, const PrunePattern& pattern) {
  if (pattern.is_structured()) return keep_largest_in_groups(pool, scores, pattern.zeros, pattern.group);
  const auto count = static_cast<double>(scores.rows() * scores.cols());
  return keep_largest(pool, scores, std::llround(count * pattern.sparsity));
}

}  // namespace solver
}  // namespace nibble
