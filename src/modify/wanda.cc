// SPDX-License-Identifier: Apache-2.0
#include "modify/wanda.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/gemm.h"
#include "modify/solver/check_input.h"

namespace nibble {
namespace {

// A swap must gain more than rounding can feign.
constexpr double kLeastGain = 1e-7;

// One row: e = pruned part of w, image = H e. Bringing back p and pruning k changes e H e^T by
//   w_p^2 H_pp - 2 w_p (H e)_p  +  w_k^2 H_kk + 2 w_k (H e)_k  -  2 w_p w_k H_pk.
class RowSwaps {
 public:
  RowSwaps(const Matrix& hessian, const PrunePattern& pattern, const SwapOptions& options)
      : h_(hessian), group_(pattern.group), candidates_(static_cast<std::size_t>(options.candidates)) {}

  void run(std::span<const float> w, std::span<float> keep, std::vector<double>& image, double loss,
           int swaps) {
    for (int swap = 0; swap < swaps; ++swap) {
      find_candidates(w, keep, image);
      Swap best;
      std::size_t first_away = 0;
      for (const Candidate& back : back_) {
        // Both lists are in the order of columns when there are groups, so a group's partners are neighbours.
        if (group_ > 0) {
          while (first_away < away_.size() && away_[first_away].column / group_ < back.column / group_)
            ++first_away;
        }
        for (std::size_t i = first_away; i < away_.size(); ++i) {
          const Candidate& away = away_[i];
          if (group_ > 0 && back.column / group_ != away.column / group_) break;
          const double change =
              back.change + away.change -
              2 * value(w, back.column) * value(w, away.column) * h(back.column, away.column);
          if (change < best.change) best = {.back = back.column, .away = away.column, .change = change};
        }
      }
      if (!(best.change < -kLeastGain * loss)) return;
      loss += best.change;
      keep[static_cast<std::size_t>(best.back)] = 1;
      keep[static_cast<std::size_t>(best.away)] = 0;
      const double minus = value(w, best.back), plus = value(w, best.away);
      for (std::int64_t c = 0; c < h_.rows(); ++c) {
        image[static_cast<std::size_t>(c)] += plus * h(best.away, c) - minus * h(best.back, c);
      }
    }
  }

 private:
  struct Candidate {
    std::int64_t column;
    double change;
  };
  struct Swap {
    std::int64_t back = -1, away = -1;
    double change = 0;
  };

  double h(std::int64_t i, std::int64_t j) const { return static_cast<double>(h_.at(i, j)); }
  static double value(std::span<const float> w, std::int64_t c) {
    return static_cast<double>(w[static_cast<std::size_t>(c)]);
  }

  void find_candidates(std::span<const float> w, std::span<const float> keep,
                       const std::vector<double>& image) {
    back_.clear();
    away_.clear();
    for (std::int64_t c = 0; c < h_.rows(); ++c) {
      const double x = value(w, c), own = x * x * h(c, c), cross = 2 * x * image[static_cast<std::size_t>(c)];
      if (keep[static_cast<std::size_t>(c)] == 0) {
        back_.push_back({c, own - cross});
      } else {
        away_.push_back({c, own + cross});
      }
    }
    if (candidates_ == 0 || group_ > 0) return;
    for (std::vector<Candidate>* list : {&back_, &away_}) {
      if (list->size() <= candidates_) continue;
      std::nth_element(list->begin(), list->begin() + static_cast<std::ptrdiff_t>(candidates_), list->end(),
                       [](const Candidate& a, const Candidate& b) {
                         return a.change != b.change ? a.change < b.change : a.column < b.column;
                       });
      list->resize(candidates_);
    }
  }

  const Matrix& h_;
  int group_;
  std::size_t candidates_;
  std::vector<Candidate> back_, away_;
};

}  // namespace

Matrix wanda_scores(const Matrix& weight, std::span<const float> mean_square) {
  CHECK(static_cast<std::int64_t>(mean_square.size()) == weight.cols(), "one mean square per input");
  Matrix scores(weight.rows(), weight.cols());
  for (std::int64_t c = 0; c < weight.cols(); ++c) {
    const float norm = std::sqrt(mean_square[static_cast<std::size_t>(c)]);
    for (std::int64_t r = 0; r < weight.rows(); ++r) scores.at(r, c) = std::fabs(weight.at(r, c)) * norm;
  }
  return scores;
}

Result<Matrix> wanda_mask(ThreadPool& pool, const Matrix& weight, std::span<const float> mean_square,
                          const PrunePattern& pattern) {
  TRY(solver::check_weight(weight));
  TRY(check_pattern(pattern, weight.cols()));
  const Matrix scores = wanda_scores(weight, mean_square);
  if (pattern.is_structured())
    return solver::keep_largest_in_groups(pool, scores, pattern.zeros, pattern.group);
  const double pruned = std::floor(static_cast<double>(weight.cols()) * pattern.sparsity);
  return solver::keep_largest_in_rows(pool, scores, static_cast<std::int64_t>(pruned));
}

void improve_mask(ThreadPool& pool, const Matrix& weight, const Matrix& hessian, const PrunePattern& pattern,
                  const SwapOptions& options, Matrix& keep) {
  const std::int64_t cols = weight.cols();
  pool.parallel_for(weight.rows(), 16, [&](std::int64_t first, std::int64_t last) {
    Matrix pruned(last - first, cols), image(last - first, cols);
    for (std::int64_t i = 0; i < pruned.rows() * cols; ++i) {
      pruned.data()[i] = keep.data()[first * cols + i] == 0 ? weight.data()[first * cols + i] : 0.0f;
    }
    kernels::gemm_nn(pool, pruned.rows(), cols, cols, pruned.data(), cols, hessian.data(), cols, image.data(),
                     cols);
    RowSwaps swaps(hessian, pattern, options);
    for (std::int64_t r = 0; r < pruned.rows(); ++r) {
      std::vector<double> row_image(image.row(r).begin(), image.row(r).end());
      double loss = 0;
      for (std::int64_t c = 0; c < cols; ++c) {
        loss += static_cast<double>(pruned.at(r, c)) * row_image[static_cast<std::size_t>(c)];
      }
      swaps.run(weight.row(first + r), keep.row(first + r), row_image, loss, options.swaps_per_row);
    }
  });
}

Matrix masked(const Matrix& weight, const Matrix& keep) {
  Matrix result(weight.rows(), weight.cols());
  for (std::int64_t i = 0; i < weight.rows() * weight.cols(); ++i) {
    result.data()[i] = keep.data()[i] == 0 ? 0.0f : weight.data()[i];
  }
  return result;
}

}  // namespace nibble
