// SPDX-License-Identifier: Apache-2.0
#include "model/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/rng.h"

namespace nibble {
namespace {

constexpr std::int64_t kPromptChunk = 1024;  // bounds the activations of a long prompt

// Candidates in falling order of probability, cut by top-k and top-p; ties to the lower id.
std::vector<TokenId> candidates(std::span<const float> logits, const SamplingOptions& options,
                                std::vector<double>& weight) {
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto likelier = [&logits](TokenId a, TokenId b) {
    const float x = logits[static_cast<std::size_t>(a)];
    const float y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::size_t keep = logits.size();
  if (options.top_k > 0) keep = std::min(keep, static_cast<std::size_t>(options.top_k));
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(keep), order.end(), likelier);
  order.resize(keep);

  const double top = static_cast<double>(logits[static_cast<std::size_t>(order[0])]);
  double total = 0;
  for (const TokenId id : order) {
    weight.push_back(
        std::exp((static_cast<double>(logits[static_cast<std::size_t>(id)]) - top) / options.temperature));
    total += weight.back();
  }
  double sum = 0;
  for (std::size_t i = 0; i < keep; ++i) {
    sum += weight[i];
    if (sum >= options.top_p * total) {
      order.resize(i + 1);
      weight.resize(i + 1);
      break;
    }
  }
  return order;
}

}  // namespace

Status SamplingOptions::validate() const {
  if (!(temperature >= 0) || !std::isfinite(temperature)) {
    return usage_error(fmt::format("temperature is {}, it must be 0 (greedy) or positive", temperature));
  }
  if (top_k < 0) return usage_error(fmt::format("top_k is {}, it must be 0 (all) or positive", top_k));
  if (!(top_p > 0) || top_p > 1) return usage_error(fmt::format("top_p is {}, it must be in (0, 1]", top_p));
  return {};
}

TokenId sample_token(std::span<const float> logits, const SamplingOptions& options, std::uint64_t step) {
  if (options.temperature == 0 || options.top_k == 1) {
    return static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin());
  }
  std::vector<double> weight;
  const std::vector<TokenId> order = candidates(logits, options, weight);
  const double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  double left = Rng(options.seed, step).uniform() * total;
  for (std::size_t i = 0; i + 1 < order.size(); ++i) {
    left -= weight[i];
    if (left < 0) return order[i];
  }
  return order.back();
}

Result<std::vector<TokenId>> generate(const Context& context, Transformer& model,
                                      std::span<const TokenId> prompt, const GenerateOptions& options) {
  const ModelConfig& config = model.config();
  if (config.head != HeadKind::kLm) {
    return usage_error(
        fmt::format("a {} has no language-model head, so it cannot generate", config.class_name));
  }
  if (prompt.empty())
    return usage_error("the prompt has no tokens", "start with the model's beginning-of-text token");
  TRY(options.sampling.validate());
  auto capacity = static_cast<std::int64_t>(prompt.size()) + options.max_new_tokens;
  if (config.row->positions != PositionRule::kRotary) capacity = std::min(capacity, config.max_positions);
  KvCache cache(config, 1, capacity);

  std::vector<TokenId> out;
  std::span<const TokenId> next = prompt;
  while (static_cast<std::int64_t>(out.size()) < options.max_new_tokens) {
    Matrix hidden;
    while (!next.empty()) {
      const std::span<const TokenId> chunk = next.first(std::min<std::size_t>(next.size(), kPromptChunk));
      const Batch batch = Batch::of({chunk.begin(), chunk.end()});
      Transformer::ForwardOptions forward;
      forward.cache = &cache;
      TRY_ASSIGN(hidden, model.hidden(context, batch, forward));
      next = next.subspan(chunk.size());
    }
    const Matrix logits = model.head().logits(context, hidden, hidden.rows() - 1, 1);
    const TokenId token = sample_token(logits.row(0), options.sampling, out.size());
    if (std::ranges::count(options.stop_tokens, token) > 0) break;
    out.push_back(token);
    if (options.on_token && !options.on_token(token)) break;
    if (cache.length() == cache.capacity()) break;
    next = std::span(out).last(1);
  }
  return out;
}

}  // namespace nibble
