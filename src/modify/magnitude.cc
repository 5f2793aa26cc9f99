// SPDX-License-Identifier: Apache-2.0
#include "modify/magnitude.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "modify/solver/check_input.h"
#include "modify/solver/mask.h"

namespace nibble {
namespace {

Matrix magnitudes(const Matrix& weight) {
  Matrix result = weight;
  for (float& value : result.values()) value = std::fabs(value);
  return result;
}

struct BlockShape {
  std::int64_t rows, cols;
};

// The block of "filter", "channel" and "block_R,C"; nullopt for any other text.
std::optional<BlockShape> block_shape(std::string_view text, const Matrix& weight) {
  if (text == "filter") return BlockShape{1, weight.cols()};
  if (text == "channel") return BlockShape{weight.rows(), 1};
  if (!text.starts_with("block_")) return std::nullopt;
  text.remove_prefix(6);
  BlockShape shape{0, 0};
  const char* end = text.data() + text.size();
  const auto rows = std::from_chars(text.data(), end, shape.rows);
  if (rows.ec != std::errc() || rows.ptr == end || *rows.ptr != ',') return std::nullopt;
  const auto cols = std::from_chars(rows.ptr + 1, end, shape.cols);
  if (cols.ec != std::errc() || cols.ptr != end || shape.rows < 1 || shape.cols < 1) return std::nullopt;
  return shape;
}

Matrix block_mask(ThreadPool& pool, const Matrix& weight, const BlockShape& shape, double sparsity) {
  Matrix scores((weight.rows() + shape.rows - 1) / shape.rows, (weight.cols() + shape.cols - 1) / shape.cols);
  std::vector<double> sums(static_cast<std::size_t>(scores.rows() * scores.cols()));
  std::vector<double> counts(sums.size());
  const auto block_of = [&](std::int64_t r, std::int64_t c) {
    return static_cast<std::size_t>(r / shape.rows * scores.cols() + c / shape.cols);
  };
  for (std::int64_t r = 0; r < weight.rows(); ++r) {
    for (std::int64_t c = 0; c < weight.cols(); ++c) {
      sums[block_of(r, c)] += std::fabs(static_cast<double>(weight.at(r, c)));
      ++counts[block_of(r, c)];
    }
  }
  for (std::size_t i = 0; i < sums.size(); ++i) scores.data()[i] = static_cast<float>(sums[i] / counts[i]);
  const Matrix blocks = solver::keep_by_scores(pool, scores, {.sparsity = sparsity});
  Matrix keep(weight.rows(), weight.cols());
  for (std::int64_t r = 0; r < weight.rows(); ++r) {
    for (std::int64_t c = 0; c < weight.cols(); ++c) keep.at(r, c) = blocks.data()[block_of(r, c)];
  }
  return keep;
}

}  // namespace

Result<Matrix> magnitude_mask(ThreadPool& pool, const Matrix& weight, std::string_view mask_structure,
                              double sparsity) {
  TRY(solver::check_weight(weight));
  TRY(check_pattern({.sparsity = sparsity}, weight.cols()));
  if (const std::optional<BlockShape> shape = block_shape(mask_structure, weight)) {
    return block_mask(pool, weight, *shape, sparsity);
  }
  PrunePattern pattern{.sparsity = sparsity};
  if (mask_structure != "unstructured") {
    Result<PrunePattern> parsed = parse_mask_structure(mask_structure, sparsity);
    if (!parsed.ok()) {
      return usage_error(
          fmt::format("mask_structure is \"{}\", allowed: unstructured, N:M, filter, channel, "
                      "block_R,C",
                      mask_structure));
    }
    pattern = *parsed;
  }
  TRY(check_pattern(pattern, weight.cols()));
  return solver::keep_by_scores(pool, magnitudes(weight), pattern);
}

struct GlobalMagnitude::State {
  std::int64_t pruned;
  solver::RankSelection last;
  int passes = 0;
  std::int64_t ties = 0;
};

GlobalMagnitude::GlobalMagnitude(std::int64_t count, double sparsity) {
  const std::int64_t pruned =
      std::clamp<std::int64_t>(std::llround(static_cast<double>(count) * sparsity), 0, count);
  state_ = std::make_unique<State>(
      State{.pruned = pruned, .last = solver::RankSelection(std::max<std::int64_t>(pruned, 1) - 1)});
}

GlobalMagnitude::~GlobalMagnitude() = default;

void GlobalMagnitude::add(ThreadPool& pool, const Matrix& weight) {
  state_->last.count(pool, weight.values());
}

void GlobalMagnitude::next_pass() {
  state_->last.narrow();
  if (++state_->passes == 2) state_->ties = state_->pruned - state_->last.smaller();
}

Matrix GlobalMagnitude::mask(const Matrix& weight) {
  CHECK(state_->passes == 2, "both passes over all weights come first");
  if (state_->pruned == 0) return solver::keep_above(magnitudes(weight), 0.0f, state_->pruned);
  return solver::keep_above(magnitudes(weight), state_->last.value(), state_->ties);
}

}  // namespace nibble
