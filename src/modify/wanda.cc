// SPDX-License-Identifier: Apache-2.0
#include "modify/wanda.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/gemm.h"
#include "modify/solver/check_input.h"

namespace nibble {
namespace {

// A swap must gain more than rounding can feign.
constexpr double kLeastGain = 1e-7;

// What the search for exchanges reads again and again of H, side by side: the blocks of the groups on its
// diagonal, row c the row of column c in its block (without groups: the diagonal).
Matrix diagonal_blocks(const Matrix& h, std::int64_t group) {
  Matrix blocks = Matrix::for_overwrite(h.rows(), group);
  for (std::int64_t c = 0; c < h.rows(); ++c) {
    const auto block =
        h.row(c).subspan(static_cast<std::size_t>(c - c % group), static_cast<std::size_t>(group));
    std::ranges::copy(block, blocks.row(c).begin());
  }
  return blocks;
}

// One row: e = pruned part of w, image = H e. Bringing back p and pruning k changes e H e^T by
//   w_p^2 H_pp - 2 w_p (H e)_p  +  w_k^2 H_kk + 2 w_k (H e)_k  -  2 w_p w_k H_pk.
class RowSwaps {
 public:
  RowSwaps(const Matrix& hessian, const Matrix& blocks, std::span<const float> w, std::span<float> keep,
           std::vector<double> image)
      : h_(hessian), blocks_(blocks), w_(w), keep_(keep), image_(std::move(image)), own_(w.size()) {
    std::int64_t in_group = 0;
    for (std::size_t c = 0; c < w_.size(); ++c) {
      const auto value = static_cast<double>(w_[c]);
      own_[c] = value * value * static_cast<double>(blocks_.at(static_cast<std::int64_t>(c), in_group));
      if (++in_group == blocks_.cols()) in_group = 0;
      if (keep_[c] == 0) loss_ += value * image_[c];
    }
  }

  // Group after group, in sweeps: a sweep makes each group's best exchange if it gains at least a quarter of
  // what the best did in the sweep before. So large gains come first, nearly as if the best of all groups
  // were looked for each time, but an exchange touches every column once and the search for it only its
  // group. (Exchanging whatever gains, in the order of groups: perplexity 111 instead of 107 after Wanda
  // 2:4.)
  void run_in_groups(int swaps) {
    const std::int64_t group = blocks_.cols();
    double bound = -std::numeric_limits<double>::infinity();
    for (bool changed = true; changed;) {
      double most = 0;
      for (std::int64_t first = 0; first < std::ssize(w_); first += group) {
        look_at(first, first + group, 0);
        const Swap best = best_swap([&](std::int64_t p, std::int64_t k) { return blocks_.at(p, k - first); });
        most = std::min(most, best.change);
        if (!is_gain(best) || best.change > bound) continue;
        if (swaps-- == 0) return;
        apply(best);
      }
      changed = most < -kLeastGain * loss_;
      bound = most / 4;
    }
  }

  // The `candidates` most promising of each kind (0: all) are exchanged as long as that helps, then others
  // are looked for, until there are none.
  void run(std::size_t candidates, int swaps) {
    const auto h = [&](std::int64_t p, std::int64_t k) { return h_.at(p, k); };
    for (bool changed = true; changed;) {
      changed = false;
      look_at(0, std::ssize(w_), candidates);
      for (Swap best = best_swap(h); is_gain(best); best = best_swap(h)) {
        if (swaps-- == 0) return;
        apply(best);
        std::swap(back_[best.back].column, away_[best.away].column);
        for (Candidate& back : back_) back.change = change_of(back.column);
        for (Candidate& away : away_) away.change = change_of(away.column);
        changed = true;
      }
    }
  }

 private:
  struct Candidate {
    std::int64_t column;
    double change;  // of the loss, by this one alone
    bool operator<(const Candidate& other) const {
      return change != other.change ? change < other.change : column < other.column;
    }
  };
  using Candidates = std::vector<Candidate>;
  struct Swap {
    std::size_t back = 0, away = 0;  // places in the lists
    double change = 0;
  };

  double w(std::int64_t c) const { return static_cast<double>(w_[static_cast<std::size_t>(c)]); }
  bool is_kept(std::int64_t c) const { return keep_[static_cast<std::size_t>(c)] != 0; }
  bool is_gain(const Swap& swap) const { return swap.change < -kLeastGain * loss_; }

  double change_of(std::int64_t c) const {
    const auto at = static_cast<std::size_t>(c);
    const double cross = 2 * w(c) * image_[at];
    return is_kept(c) ? own_[at] + cross : own_[at] - cross;
  }

  // Fills back_ and away_ with what may come back and go away in [first, last): the `most` best of each (0:
  // all).
  void look_at(std::int64_t first, std::int64_t last, std::size_t most) {
    back_.clear();
    away_.clear();
    double back_bound = std::numeric_limits<double>::infinity(), away_bound = back_bound;
    for (std::int64_t c = first; c < last; ++c) {
      const Candidate candidate{c, change_of(c)};
      if (is_kept(c)) {
        offer(candidate, most, away_bound, away_);
      } else {
        offer(candidate, most, back_bound, back_);
      }
    }
    cut(most, back_);
    cut(most, away_);
  }

  // The list is cut when it has twice as many as asked for, so that few of a row's columns are ever sorted.
  static void offer(const Candidate& candidate, std::size_t most, double& bound, Candidates& list) {
    if (!(candidate.change < bound)) return;
    list.push_back(candidate);
    if (most == 0 || list.size() < 2 * most) return;
    cut(most, list);
    bound = list.back().change;
  }

  // The `most` best (0: all), the worst of them last.
  static void cut(std::size_t most, Candidates& list) {
    if (most == 0 || list.size() <= most) return;
    std::nth_element(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(most) - 1, list.end());
    list.resize(most);
  }

  template <class Entry>
  Swap best_swap(const Entry& h) const {
    Swap best;
    for (std::size_t p = 0; p < back_.size(); ++p) {
      const double twice = 2 * w(back_[p].column);
      for (std::size_t k = 0; k < away_.size(); ++k) {
        const double both =
            twice * w(away_[k].column) * static_cast<double>(h(back_[p].column, away_[k].column));
        const double change = back_[p].change + away_[k].change - both;
        if (change < best.change) best = {.back = p, .away = k, .change = change};
      }
    }
    return best;
  }

  void apply(const Swap& swap) {
    const std::int64_t p = back_[swap.back].column, k = away_[swap.away].column;
    loss_ += swap.change;
    keep_[static_cast<std::size_t>(p)] = 1;
    keep_[static_cast<std::size_t>(k)] = 0;
    const double minus = w(p), plus = w(k);
    const std::span<const float> back = h_.row(p), away = h_.row(k);
    for (std::size_t c = 0; c < image_.size(); ++c)
      image_[c] += plus * static_cast<double>(away[c]) - minus * static_cast<double>(back[c]);
  }

  const Matrix& h_;
  const Matrix& blocks_;
  std::span<const float> w_;
  std::span<float> keep_;
  std::vector<double> image_, own_;  // own: w_c^2 H_cc
  double loss_ = 0;
  Candidates back_, away_;
};

}  // namespace

Matrix wanda_scores(ThreadPool& pool, const Matrix& weight, std::span<const float> mean_square) {
  CHECK(static_cast<std::int64_t>(mean_square.size()) == weight.cols(), "one mean square per input");
  std::vector<float> norm(mean_square.size());
  for (std::size_t c = 0; c < norm.size(); ++c) norm[c] = std::sqrt(mean_square[c]);
  Matrix scores = Matrix::for_overwrite(weight.rows(), weight.cols());
  pool.parallel_for(weight.rows(), 16, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      const float* const w = weight.row(r).data();
      float* const score = scores.row(r).data();
      for (std::size_t c = 0; c < norm.size(); ++c) score[c] = std::fabs(w[c]) * norm[c];
    }
  });
  return scores;
}

Result<Matrix> wanda_mask(ThreadPool& pool, const Matrix& weight, std::span<const float> mean_square,
                          const PrunePattern& pattern) {
  TRY(solver::check_weight(weight));
  TRY(check_pattern(pattern, weight.cols()));
  const Matrix scores = wanda_scores(pool, weight, mean_square);
  if (pattern.is_structured())
    return solver::keep_largest_in_groups(pool, scores, pattern.zeros, pattern.group);
  const double pruned = std::floor(static_cast<double>(weight.cols()) * pattern.sparsity);
  return solver::keep_largest_in_rows(pool, scores, static_cast<std::int64_t>(pruned));
}

void improve_mask(ThreadPool& pool, const Matrix& weight, const Matrix& hessian, const PrunePattern& pattern,
                  const SwapOptions& options, Matrix& keep) {
  const std::int64_t cols = weight.cols();
  Matrix pruned = Matrix::for_overwrite(weight.rows(), cols),
         image = Matrix::for_overwrite(weight.rows(), cols);
  pool.parallel_for(weight.rows() * cols, 1 << 15, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i)
      pruned.data()[i] = keep.data()[i] == 0 ? weight.data()[i] : 0.0f;
  });
  kernels::gemm_nn(pool, weight.rows(), cols, cols, pruned.data(), cols, hessian.data(), cols, image.data(),
                   cols);
  const Matrix blocks = diagonal_blocks(hessian, pattern.is_structured() ? pattern.group : 1);
  pool.parallel_for(weight.rows(), 16, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      RowSwaps row(hessian, blocks, weight.row(r), keep.row(r), {image.row(r).begin(), image.row(r).end()});
      if (pattern.is_structured()) {
        row.run_in_groups(options.swaps_per_row);
      } else {
        row.run(static_cast<std::size_t>(options.candidates), options.swaps_per_row);
      }
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
