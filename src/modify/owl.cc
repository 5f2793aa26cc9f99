// SPDX-License-Identifier: Apache-2.0
#include "modify/owl.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace nibble {
namespace {

template <class Body>
void for_each_score(std::span<const ScoredWeight> weights, const Body& body) {
  for (const ScoredWeight& scored : weights) {
    const Matrix& w = *scored.weight;
    CHECK(static_cast<std::int64_t>(scored.activation.size()) == w.cols(), "one activation norm per input");
    for (std::int64_t r = 0; r < w.rows(); ++r) {
      for (std::int64_t c = 0; c < w.cols(); ++c) {
        body(std::fabs(w.at(r, c)) * scored.activation[static_cast<std::size_t>(c)]);
      }
    }
  }
}

// Densities that vary by `width` with the scores: smallest score, smallest density; their mean is 1 -
// sparsity.
Result<std::vector<double>> spread(std::span<const double> scores, double sparsity, double width) {
  std::vector<double> result(scores.size(), sparsity);
  if (scores.empty()) return result;
  const auto [low, high] = std::ranges::minmax(scores);
  if (!(high > low)) return result;
  double mean = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    result[i] = (scores[i] - low) / (high - low) * width;
    mean += result[i] / static_cast<double>(scores.size());
  }
  for (std::size_t i = 0; i < scores.size(); ++i) {
    result[i] = sparsity + mean - result[i];
    if (result[i] >= 0 && result[i] < 1) continue;
    return usage_error(
        fmt::format("layer {} would get sparsity {:.4f}, allowed: at least 0 and below 1", i, result[i]),
        fmt::format("lower the spread (now {}) or change the mean sparsity (now {})", width / 2, sparsity));
  }
  return result;
}

}  // namespace

double outlier_ratio(std::span<const ScoredWeight> weights, double owl_m) {
  double sum = 0;
  std::int64_t count = 0, outliers = 0;
  for_each_score(weights, [&](float score) {
    sum += static_cast<double>(score);
    ++count;
  });
  if (count == 0) return 0;
  const double limit = owl_m * sum / static_cast<double>(count);
  for_each_score(weights, [&](float score) { outliers += static_cast<double>(score) > limit; });
  return 100.0 * static_cast<double>(outliers) / static_cast<double>(count);
}

double median_importance(std::span<const ScoredWeight> weights) {
  double sum = 0;
  std::vector<float> scores;
  for_each_score(weights, [&](float score) {
    sum += static_cast<double>(score);
    scores.push_back(score);
  });
  if (scores.empty()) return 0;
  const auto middle = scores.begin() + static_cast<std::ptrdiff_t>((scores.size() - 1) / 2);
  std::nth_element(scores.begin(), middle, scores.end());
  return *middle > 0 ? sum / static_cast<double>(*middle) : 0;
}

Result<std::vector<double>> owl_sparsities(std::span<const double> outlier_ratios, double sparsity,
                                           double owl_lmbda) {
  return spread(outlier_ratios, sparsity, 2 * owl_lmbda);
}

Result<std::vector<double>> dlp_sparsities(std::span<const double> importances, double sparsity,
                                           double alpha) {
  const double sum = std::accumulate(importances.begin(), importances.end(), 0.0);
  std::vector<double> unimportance;
  for (const double s : importances) unimportance.push_back(sum > 0 ? 1 - s / sum : 1);
  return spread(unimportance, sparsity, 2 * alpha);
}

std::vector<double> kl_sparsities(std::span<const double> divergences, std::span<const double> weights,
                                  double sparsity, double lmbda) {
  constexpr double kGrowth = 10;
  constexpr double kSmallest = 1e-9;  // nats; a block that costs nothing has no logarithm
  constexpr double kMost = 0.99;
  const double low = std::max(0.0, sparsity - lmbda);
  const double high = std::max(low, std::min(sparsity + lmbda, kMost));
  const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<double> result(divergences.size());
  const auto mean_with = [&](double offset) {
    double sum = 0;
    for (std::size_t i = 0; i < result.size(); ++i) {
      const double own = offset - std::log(std::max(divergences[i], kSmallest)) / kGrowth;
      result[i] = std::clamp(own, low, high);
      sum += weights[i] * result[i];
    }
    return sum / all;
  };
  double below = -10, above = 10;  // logarithms of divergences are within +-30
  for (int step = 0; step < 100; ++step) {
    const double middle = (below + above) / 2;
    (mean_with(middle) < sparsity ? below : above) = middle;
  }
  mean_with(above);
  return result;
}

}  // namespace nibble
