// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/tensor_statistics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace nibble {
namespace {

constexpr std::int64_t kChunk = 1 << 16;  // elements; fixes the order of the sums
constexpr std::int64_t kPiece = 4096;     // decoded at a time; a multiple of four

struct Partial {
  std::int64_t zeros = 0, nans = 0, infinities = 0, groups = 0, sparse_groups = 0;
  double minimum = std::numeric_limits<double>::infinity();
  double maximum = -std::numeric_limits<double>::infinity();
  double absolute = 0;
  std::array<double, 4> powers{};  // sums of (x - shift)^1..4

  void add(float value, double shift) {
    if (!std::isfinite(value)) {
      ++(std::isnan(value) ? nans : infinities);
      return;
    }
    const double x = static_cast<double>(value);
    zeros += value == 0.0F ? 1 : 0;
    minimum = std::min(minimum, x);
    maximum = std::max(maximum, x);
    absolute += std::abs(x);
    const double d = x - shift;
    const double d2 = d * d;
    powers[0] += d;
    powers[1] += d2;
    powers[2] += d2 * d;
    powers[3] += d2 * d2;
  }

  void add(const Partial& other) {
    zeros += other.zeros;
    nans += other.nans;
    infinities += other.infinities;
    groups += other.groups;
    sparse_groups += other.sparse_groups;
    minimum = std::min(minimum, other.minimum);
    maximum = std::max(maximum, other.maximum);
    absolute += other.absolute;
    for (std::size_t i = 0; i < powers.size(); ++i) powers[i] += other.powers[i];
  }
};

// Calls body(values) over the elements [first, last) in small decoded pieces.
template <class Body>
void for_pieces(const Tensor& tensor, std::int64_t first, std::int64_t last, const Body& body) {
  std::vector<float> piece(static_cast<std::size_t>(std::min(kPiece, last - first)));
  for (std::int64_t i = first; i < last; i += kPiece) {
    const auto length = static_cast<std::size_t>(std::min(kPiece, last - i));
    tensor.decode_f32(i, std::span(piece).first(length));
    body(std::span<const float>(piece).first(length));
  }
}

// Moments are taken about a value near the mean: sums of plain fourth powers would cancel.
double first_finite(const Tensor& tensor) {
  double found = 0;
  for_pieces(tensor, 0, std::min<std::int64_t>(tensor.size(), kPiece), [&](std::span<const float> values) {
    double sum = 0, count = 0;
    for (const float value : values) {
      if (!std::isfinite(value)) continue;
      sum += static_cast<double>(value);
      count += 1;
    }
    found = count > 0 ? sum / count : 0;
  });
  return found;
}

Partial summarise(const Tensor& tensor, std::int64_t first, std::int64_t last, double shift,
                  bool has_groups) {
  Partial partial;
  for_pieces(tensor, first, last, [&](std::span<const float> values) {
    for (const float value : values) partial.add(value, shift);
    for (std::size_t i = 0; has_groups && i + 4 <= values.size(); i += 4) {
      const auto group = values.subspan(i, 4);
      ++partial.groups;
      partial.sparse_groups += std::count(group.begin(), group.end(), 0.0F) >= 2 ? 1 : 0;
    }
  });
  return partial;
}

TensorStatistics finish(const Partial& sum, std::int64_t count, double shift) {
  TensorStatistics s;
  s.count = count;
  s.zeros = sum.zeros;
  s.nans = sum.nans;
  s.infinities = sum.infinities;
  s.groups_of_four = sum.groups;
  s.two_of_four_zero = sum.sparse_groups;
  const auto n = static_cast<double>(s.finite());
  if (s.finite() == 0) return s;
  s.minimum = sum.minimum;
  s.maximum = sum.maximum;
  s.absolute_maximum = std::max(std::abs(sum.minimum), std::abs(sum.maximum));
  s.absolute_mean = sum.absolute / n;
  const double m1 = sum.powers[0] / n, m2 = sum.powers[1] / n, m3 = sum.powers[2] / n, m4 = sum.powers[3] / n;
  s.mean = shift + m1;
  const double variance = std::max(0.0, m2 - m1 * m1);
  s.deviation = std::sqrt(variance);
  const double fourth = m4 - 4 * m1 * m3 + 6 * m1 * m1 * m2 - 3 * m1 * m1 * m1 * m1;
  s.kurtosis = variance > 0 ? fourth / (variance * variance) : 0;
  return s;
}

}  // namespace

TensorStatistics tensor_statistics(const Tensor& tensor, ThreadPool& pool) {
  const std::int64_t count = tensor.size();
  if (count == 0) return {};
  const std::int64_t cols = tensor.shape().empty() ? 1 : tensor.shape().back();
  const bool has_groups = tensor.shape().size() >= 2 && cols % 4 == 0;
  const double shift = first_finite(tensor);
  std::vector<Partial> partials(static_cast<std::size_t>((count + kChunk - 1) / kChunk));
  pool.parallel_for(
      static_cast<std::int64_t>(partials.size()), 1, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t i = first; i < last; ++i) {
          partials[static_cast<std::size_t>(i)] =
              summarise(tensor, i * kChunk, std::min(count, (i + 1) * kChunk), shift, has_groups);
        }
      });
  Partial sum;
  for (const Partial& partial : partials) sum.add(partial);
  return finish(sum, count, shift);
}

std::vector<std::int64_t> tensor_histogram(const Tensor& tensor, double low, double high, int bins,
                                           ThreadPool& pool) {
  CHECK(bins > 0, "a histogram needs a bin");
  const std::int64_t count = tensor.size();
  const std::int64_t chunks = (count + kChunk - 1) / kChunk;
  std::vector<std::vector<std::int64_t>> counts(static_cast<std::size_t>(chunks),
                                                std::vector<std::int64_t>(static_cast<std::size_t>(bins)));
  const double scale = high > low ? bins / (high - low) : 0;
  pool.parallel_for(chunks, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      for_pieces(tensor, i * kChunk, std::min(count, (i + 1) * kChunk), [&](std::span<const float> values) {
        for (const float value : values) {
          if (!std::isfinite(value)) continue;
          const double place = std::clamp((static_cast<double>(value) - low) * scale, 0.0, bins - 1.0);
          ++counts[static_cast<std::size_t>(i)][static_cast<std::size_t>(place)];
        }
      });
    }
  });
  std::vector<std::int64_t> total(static_cast<std::size_t>(bins));
  for (const auto& part : counts) {
    for (std::size_t b = 0; b < total.size(); ++b) total[b] += part[b];
  }
  return total;
}

}  // namespace nibble
