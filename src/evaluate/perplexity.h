// SPDX-License-Identifier: Apache-2.0
// Perplexity of a model on windows of tokens and, beside a base model, what the change lost: the KL
// divergence of the base's next-token distribution from the model's, and how often both put the same token
// first. Sums run in fp64 in the order of the tokens; memory is bounded by a few windows and slices of
// logits.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/context.h"
#include "base/error.h"
#include "model/transformer.h"
#include "text/windows.h"

namespace nibble {

struct Perplexity {
  double perplexity = 0;  // exp of the mean over windows of each window's mean NLL
  // Standard error of `perplexity`, from the spread of the window means (kGptq) or of single predictions
  // (kLlamaCpp, and when there is one window).
  double standard_error = 0;
  std::int64_t windows = 0;
  std::int64_t predictions = 0;
  std::vector<double> window_means;  // NLL in nats
};

struct Divergence {
  double mean_kl = 0, mean_kl_standard_error = 0;  // nats
  double median_kl = 0, kl_90 = 0, kl_95 = 0, kl_99 = 0, kl_999 = 0, max_kl = 0;
  double same_top1 = 0;  // fraction of positions
  double ppl_ratio = 0, ppl_ratio_standard_error = 0;
  // Root mean square difference of the probability of the right token.
  double rms_delta_p = 0;
};

struct Evaluation {
  Perplexity model;
  std::optional<Perplexity> base;
  std::optional<Divergence> divergence;  // of the model from the base
};

struct EvaluateOptions {
  Convention convention = Convention::kGptq;
  // Windows that go through the blocks together. A streaming model takes all of them at once, so that each
  // block is read once; this then costs windows * context * hidden * 4 bytes.
  bool all_at_once = false;
};

// `base` may be null. Both models see the same windows; vocabularies must be of equal size.
Result<Evaluation> evaluate(const Context& context, Transformer& model, Transformer* base,
                            std::span<const Window> windows, const EvaluateOptions& options);

// From NLLs of single predictions, window after window.
Perplexity summarize(std::span<const Window> windows, std::span<const double> nll, Convention convention);

// Per position, from logits of the base (p) and of the model (q); `target` is the token that follows.
struct PositionScore {
  double nll_base = 0, nll_model = 0;
  double kl = 0;
  bool same_top1 = false;
};
PositionScore score_position(std::span<const float> base, std::span<const float> model, TokenId target);
Divergence summarize(std::span<const PositionScore> scores);

}  // namespace nibble
