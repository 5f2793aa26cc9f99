// SPDX-License-Identifier: Apache-2.0
#include "modify/channel_permutation.h"

#include <algorithm>
#include <functional>
#include <numeric>

namespace nibble {
namespace {

constexpr std::int64_t kMostRows = 1024;

// Scores by row, of the rows that the search looks at.
Matrix sampled(const Matrix& scores) {
  const std::int64_t step = (scores.rows() + kMostRows - 1) / kMostRows;
  if (step <= 1) return scores;
  Matrix some((scores.rows() + step - 1) / step, scores.cols());
  for (std::int64_t r = 0; r < some.rows(); ++r) std::ranges::copy(scores.row(r * step), some.row(r).begin());
  return some;
}

struct Swap {
  float gain;
  std::int64_t a, b;  // places
};

class Search {
 public:
  Search(ThreadPool& pool, const Matrix& scores, const PrunePattern& pattern)
      : pool_(pool),
        scores_(sampled(scores)),
        pattern_(pattern),
        kept_(pattern.group - pattern.zeros),
        order_(static_cast<std::size_t>(scores.cols())),
        limits_(scores.cols(), scores_.rows()),
        others_(order_.size()),
        gains_(scores.cols(), scores.cols()) {
    std::iota(order_.begin(), order_.end(), std::int64_t{0});
  }

  const ChannelOrder& order() const { return order_; }

  // Whether anything was swapped.
  bool round() {
    measure_groups();
    measure_offers();
    const std::vector<Swap> swaps = best_swaps();
    for (const Swap& swap : swaps) std::swap(order_[at(swap.a)], order_[at(swap.b)]);
    return !swaps.empty();
  }

 private:
  static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

  // For each place, as if its channel were gone: the sum that its group retains, and the score that a
  // newcomer has to exceed, row by row. What a newcomer x adds is max(0, x - limit).
  void measure_groups() {
    pool_.parallel_for(scores_.cols() / pattern_.group, 1, [&](std::int64_t first, std::int64_t last) {
      std::vector<float> rest(at(pattern_.group));
      for (std::int64_t place = first * pattern_.group; place < last * pattern_.group; ++place) {
        const std::int64_t begin = place / pattern_.group * pattern_.group;
        double sum = 0;
        for (std::int64_t r = 0; r < scores_.rows(); ++r) {
          std::size_t count = 0;
          for (std::int64_t other = begin; other < begin + pattern_.group; ++other) {
            if (other != place) rest[count++] = scores_.at(r, order_[at(other)]);
          }
          const auto end = rest.begin() + static_cast<std::ptrdiff_t>(count);
          std::partial_sort(rest.begin(), rest.begin() + kept_, end, std::greater<>());
          for (int k = 0; k < kept_; ++k) sum += static_cast<double>(rest[static_cast<std::size_t>(k)]);
          limits_.at(place, r) = rest[static_cast<std::size_t>(kept_ - 1)];
        }
        others_[at(place)] = sum;
      }
    });
  }

  // gains_(place, channel): what the group of the place retains with the channel there, less `others_`.
  void measure_offers() {
    pool_.parallel_for(scores_.cols(), 4, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t place = first; place < last; ++place) {
        float* sum = gains_.row(place).data();
        std::fill_n(sum, scores_.cols(), 0.0F);
        for (std::int64_t r = 0; r < scores_.rows(); ++r) {
          const float limit = limits_.at(place, r);
          const float* row = scores_.row(r).data();
          for (std::int64_t c = 0; c < scores_.cols(); ++c) sum[c] += std::max(0.0F, row[c] - limit);
        }
      }
    });
  }

  float gain(std::int64_t a, std::int64_t b) const {
    const std::int64_t x = order_[at(a)], y = order_[at(b)];
    return (gains_.at(a, y) - gains_.at(a, x)) + (gains_.at(b, x) - gains_.at(b, y));
  }

  // Swaps of different groups touch nothing of each other: their gains add up.
  std::vector<Swap> best_swaps() {
    const std::int64_t cols = scores_.cols();
    std::vector<Swap> best(at(cols));
    pool_.parallel_for(cols, 16, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t a = first; a < last; ++a) {
        Swap& swap = best[at(a)] = {0, a, a};
        for (std::int64_t b = 0; b < cols; ++b) {
          if (a / pattern_.group == b / pattern_.group) continue;
          const float found = gain(a, b);
          if (found > swap.gain) swap = {found, a, b};
        }
      }
    });
    std::ranges::sort(best, [](const Swap& x, const Swap& y) {
      return x.gain != y.gain ? x.gain > y.gain : std::pair(x.a, x.b) < std::pair(y.a, y.b);
    });
    std::vector<bool> used(at(cols / pattern_.group));
    std::vector<Swap> chosen;
    for (const Swap& swap : best) {
      const auto a = at(swap.a / pattern_.group), b = at(swap.b / pattern_.group);
      if (!(swap.gain > 0) || used[a] || used[b]) continue;
      used[a] = used[b] = true;
      chosen.push_back(swap);
    }
    return chosen;
  }

  ThreadPool& pool_;
  Matrix scores_;
  PrunePattern pattern_;
  int kept_;
  ChannelOrder order_;
  Matrix limits_;  // [places, rows]
  std::vector<double> others_;
  Matrix gains_;
};

}  // namespace

double retained_importance(const Matrix& scores, const PrunePattern& pattern, const ChannelOrder& order) {
  const auto group = static_cast<std::size_t>(pattern.group);
  const auto kept = static_cast<std::ptrdiff_t>(pattern.group - pattern.zeros);
  std::vector<float> values(group);
  double sum = 0;
  for (std::int64_t r = 0; r < scores.rows(); ++r) {
    for (std::size_t begin = 0; begin + group <= order.size(); begin += group) {
      for (std::size_t i = 0; i < group; ++i) values[i] = scores.at(r, order[begin + i]);
      std::partial_sort(values.begin(), values.begin() + kept, values.end(), std::greater<>());
      sum = std::accumulate(values.begin(), values.begin() + kept, sum);
    }
  }
  return sum;
}

double retained_importance(const Matrix& scores, const PrunePattern& pattern) {
  ChannelOrder order(static_cast<std::size_t>(scores.cols()));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  return retained_importance(scores, pattern, order);
}

ChannelOrder find_channel_order(ThreadPool& pool, const Matrix& scores, const PrunePattern& pattern,
                                int rounds) {
  CHECK(pattern.is_structured() && scores.cols() % pattern.group == 0, "groups divide the columns");
  Search search(pool, scores, pattern);
  ChannelOrder best = search.order();
  // With all or one zero in a group of one nothing competes.
  if (pattern.zeros == 0 || pattern.zeros >= pattern.group || scores.cols() <= pattern.group) return best;
  double retained = retained_importance(scores, pattern);
  for (int round = 0; round < rounds; ++round) {
    if (!search.round()) break;
    const double now = retained_importance(scores, pattern, search.order());
    if (!(now > retained)) break;
    retained = now;
    best = search.order();
  }
  return best;
}

}  // namespace nibble
