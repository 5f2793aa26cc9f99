// SPDX-License-Identifier: Apache-2.0
#include "evaluate/perplexity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace nibble {
namespace {

// Rows of logits of both models that are in memory at once.
constexpr std::int64_t kLogitRows = 256;
// Tokens that go through the blocks together: enough for full-speed products, few enough to stay in the
// caches' reach.
constexpr std::int64_t kTokensAtOnce = 4096;

struct Group {
  std::size_t first = 0, count = 0;  // windows
};

// Windows of one group have one length, so that they form one batch.
std::vector<Group> group_windows(std::span<const Window> windows) {
  std::vector<Group> groups;
  for (std::size_t w = 0; w < windows.size(); ++w) {
    const auto length = static_cast<std::int64_t>(windows[w].ids.size());
    const bool fits = !groups.empty() && windows[groups.back().first].ids.size() == windows[w].ids.size() &&
                      length * static_cast<std::int64_t>(groups.back().count + 1) <= kTokensAtOnce;
    if (fits) {
      ++groups.back().count;
    } else {
      groups.push_back({w, 1});
    }
  }
  return groups;
}

Batch batch_of(std::span<const Window> windows) {
  Batch batch;
  batch.sequences = static_cast<std::int64_t>(windows.size());
  batch.length = static_cast<std::int64_t>(windows.front().ids.size());
  for (const Window& window : windows)
    batch.ids.insert(batch.ids.end(), window.ids.begin(), window.ids.end());
  return batch;
}

// The token that follows each position of the windows, -1 where nothing is scored.
std::vector<TokenId> targets_of(std::span<const Window> windows) {
  std::vector<TokenId> targets;
  for (const Window& window : windows) {
    const auto length = static_cast<std::int64_t>(window.ids.size());
    for (std::int64_t t = 0; t < length; ++t) {
      const bool scored = t >= window.first_prediction && t + 1 < length;
      targets.push_back(scored ? window.ids[static_cast<std::size_t>(t + 1)] : -1);
    }
  }
  return targets;
}

double mean(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Standard error of the mean; 0 for fewer than two values.
double standard_error(std::span<const double> values) {
  if (values.size() < 2) return 0;
  const double center = mean(values);
  double squares = 0;
  for (const double value : values) squares += (value - center) * (value - center);
  const auto count = static_cast<double>(values.size());
  return std::sqrt(squares / (count - 1) / count);
}

double quantile(std::span<const double> sorted, double fraction) {
  const double place = fraction * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(place);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (place - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

double log_sum_exp(std::span<const float> logits, float largest) {
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - static_cast<double>(largest));
  return static_cast<double>(largest) + std::log(sum);
}

// Runs the groups through a model and hands each group's last hidden states on, in order.
class Runner {
 public:
  Runner(const Context& context, std::span<const Window> windows, std::span<const Group> groups)
      : context_(context) {
    for (const Group& group : groups) batches_.push_back(batch_of(windows.subspan(group.first, group.count)));
  }

  Status run_all(Transformer& model, const Transformer::Done& done) const {
    return model.forward(context_, batches_, {}, done);
  }
  Result<Matrix> run_one(Transformer& model, std::size_t group) const {
    return model.hidden(context_, batches_[group], {});
  }

 private:
  const Context& context_;
  std::vector<Batch> batches_;
};

Status check_finite(std::span<const double> nll) {
  if (std::all_of(nll.begin(), nll.end(), [](double value) { return std::isfinite(value); })) return {};
  return failed("the model gives logits that are not finite",
                "the weights overflow in this precision, or the checkpoint is damaged: try `nibble verify`");
}

// Appends the scored entries.
void keep_scored(std::span<const TokenId> targets, std::span<const double> nll, std::vector<double>& out) {
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (targets[i] >= 0) out.push_back(nll[i]);
  }
}

// Scores of all positions of a group that have a target, in slices of rows.
Status score_group(const Context& context, Transformer& base, Transformer& model, const Matrix& base_hidden,
                   const Matrix& model_hidden, std::span<const TokenId> targets,
                   std::vector<PositionScore>& scores) {
  for (std::int64_t first = 0; first < model_hidden.rows(); first += kLogitRows) {
    const std::int64_t count = std::min(kLogitRows, model_hidden.rows() - first);
    const std::span<const TokenId> wanted =
        targets.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
    if (std::all_of(wanted.begin(), wanted.end(), [](TokenId t) { return t < 0; })) continue;
    const Matrix p = base.head().logits(context, base_hidden, first, count);
    const Matrix q = model.head().logits(context, model_hidden, first, count);
    std::vector<PositionScore> slice(static_cast<std::size_t>(count));
    context.pool.parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        const auto i = static_cast<std::size_t>(r);
        if (wanted[i] >= 0) slice[i] = score_position(p.row(r), q.row(r), wanted[i]);
      }
    });
    for (std::size_t i = 0; i < slice.size(); ++i) {
      if (wanted[i] >= 0) scores.push_back(slice[i]);
    }
  }
  return {};
}

Result<Evaluation> evaluate_alone(const Context& context, Transformer& model, std::span<const Window> windows,
                                  const EvaluateOptions& options) {
  const std::vector<Group> groups = group_windows(windows);
  const Runner runner(context, windows, groups);
  std::vector<double> nll;
  const auto score = [&](std::size_t g, Matrix hidden) -> Status {
    const std::vector<TokenId> targets = targets_of(windows.subspan(groups[g].first, groups[g].count));
    std::vector<double> losses(targets.size());
    TRY(model.head().negative_log_likelihood(context, hidden, targets, losses));
    TRY(check_finite(losses));
    keep_scored(targets, losses, nll);
    return {};
  };
  if (options.all_at_once) {
    TRY(runner.run_all(model, score));
  } else {
    for (std::size_t g = 0; g < groups.size(); ++g) {
      if (context.stop.stop_requested())
        return Error{ErrorCode::kInterrupted, "evaluation interrupted", {}, {}};
      TRY_ASSIGN(Matrix hidden, runner.run_one(model, g));
      TRY(score(g, std::move(hidden)));
      context.events.progress("evaluate", static_cast<double>(g + 1), static_cast<double>(groups.size()));
    }
  }
  return Evaluation{.model = summarize(windows, nll, options.convention), .base = {}, .divergence = {}};
}

Result<Evaluation> evaluate_pair(const Context& context, Transformer& model, Transformer& base,
                                 std::span<const Window> windows, const EvaluateOptions& options) {
  if (model.config().vocab != base.config().vocab) {
    return usage_error(fmt::format("the models have vocabularies of {} and {} tokens and cannot be compared",
                                   model.config().vocab, base.config().vocab));
  }
  const std::vector<Group> groups = group_windows(windows);
  const Runner runner(context, windows, groups);
  std::vector<Matrix> base_hidden(groups.size());
  if (options.all_at_once) {
    TRY(runner.run_all(base, [&](std::size_t g, Matrix hidden) -> Status {
      base_hidden[g] = std::move(hidden);
      return {};
    }));
  }
  std::vector<PositionScore> scores;
  const auto score = [&](std::size_t g, Matrix hidden) -> Status {
    const std::vector<TokenId> targets = targets_of(windows.subspan(groups[g].first, groups[g].count));
    TRY(score_group(context, base, model, base_hidden[g], hidden, targets, scores));
    base_hidden[g] = Matrix();
    return {};
  };
  if (options.all_at_once) {
    TRY(runner.run_all(model, score));
  } else {
    for (std::size_t g = 0; g < groups.size(); ++g) {
      if (context.stop.stop_requested())
        return Error{ErrorCode::kInterrupted, "evaluation interrupted", {}, {}};
      TRY_ASSIGN(base_hidden[g], runner.run_one(base, g));
      TRY_ASSIGN(Matrix hidden, runner.run_one(model, g));
      TRY(score(g, std::move(hidden)));
      context.events.progress("evaluate", static_cast<double>(g + 1), static_cast<double>(groups.size()));
    }
  }
  std::vector<double> nll_model;
  std::vector<double> nll_base;
  for (const PositionScore& position : scores) {
    nll_model.push_back(position.nll_model);
    nll_base.push_back(position.nll_base);
  }
  TRY(check_finite(nll_model));
  TRY(check_finite(nll_base).at("base model"));
  return Evaluation{.model = summarize(windows, nll_model, options.convention),
                    .base = summarize(windows, nll_base, options.convention),
                    .divergence = summarize(scores)};
}

}  // namespace

Perplexity summarize(std::span<const Window> windows, std::span<const double> nll, Convention convention) {
  Perplexity result;
  result.windows = static_cast<std::int64_t>(windows.size());
  result.predictions = static_cast<std::int64_t>(nll.size());
  std::size_t first = 0;
  for (const Window& window : windows) {
    const auto count = static_cast<std::size_t>(window.predictions());
    result.window_means.push_back(mean(nll.subspan(first, count)));
    first += count;
  }
  result.perplexity = std::exp(mean(result.window_means));
  const bool by_windows = convention == Convention::kGptq && result.windows > 1;
  result.standard_error =
      result.perplexity * standard_error(by_windows ? std::span<const double>(result.window_means) : nll);
  return result;
}

PositionScore score_position(std::span<const float> base, std::span<const float> model, TokenId target) {
  const auto top_base = std::max_element(base.begin(), base.end());
  const auto top_model = std::max_element(model.begin(), model.end());
  const double norm_model = log_sum_exp(model, *top_model);
  // sum p (log p - log q) with p = e / sum e, so that each exponential is taken once.
  double sum = 0;
  double weighted = 0;
  for (std::size_t v = 0; v < base.size(); ++v) {
    const double e = std::exp(static_cast<double>(base[v]) - static_cast<double>(*top_base));
    sum += e;
    weighted += e * (static_cast<double>(base[v]) - static_cast<double>(model[v]));
  }
  const double norm_base = static_cast<double>(*top_base) + std::log(sum);
  const auto t = static_cast<std::size_t>(target);
  return {.nll_base = norm_base - static_cast<double>(base[t]),
          .nll_model = norm_model - static_cast<double>(model[t]),
          .kl = weighted / sum - (norm_base - norm_model),
          .same_top1 = top_base - base.begin() == top_model - model.begin()};
}

Divergence summarize(std::span<const PositionScore> scores) {
  std::vector<double> kl;
  std::vector<double> log_ratio;
  double same = 0;
  double squares = 0;
  for (const PositionScore& score : scores) {
    kl.push_back(score.kl);
    log_ratio.push_back(score.nll_model - score.nll_base);
    same += score.same_top1 ? 1 : 0;
    const double delta_p = std::exp(-score.nll_model) - std::exp(-score.nll_base);
    squares += delta_p * delta_p;
  }
  const auto count = static_cast<double>(scores.size());
  Divergence result;
  result.mean_kl = mean(kl);
  result.mean_kl_standard_error = standard_error(kl);
  result.same_top1 = same / count;
  result.ppl_ratio = std::exp(mean(log_ratio));
  result.ppl_ratio_standard_error = result.ppl_ratio * standard_error(log_ratio);
  result.rms_delta_p = std::sqrt(squares / count);
  std::sort(kl.begin(), kl.end());
  result.median_kl = quantile(kl, 0.5);
  result.kl_90 = quantile(kl, 0.90);
  result.kl_95 = quantile(kl, 0.95);
  result.kl_99 = quantile(kl, 0.99);
  result.kl_999 = quantile(kl, 0.999);
  result.max_kl = kl.back();
  return result;
}

Result<Evaluation> evaluate(const Context& context, Transformer& model, Transformer* base,
                            std::span<const Window> windows, const EvaluateOptions& options) {
  CHECK(!windows.empty(), "cut_windows gives at least one window");
  context.events.phase("evaluate");
  return base == nullptr ? evaluate_alone(context, model, windows, options)
                         : evaluate_pair(context, model, *base, windows, options);
}

}  // namespace nibble
