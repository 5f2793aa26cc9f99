// SPDX-License-Identifier: Apache-2.0
// Text generation with a key/value cache: greedy, or sampled with temperature, top-k and top-p (Holtzman et
// al. 2020).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/context.h"
#include "base/error.h"
#include "model/transformer.h"

namespace nibble {

struct SamplingOptions {
  double temperature = 0;  // 0: greedy
  std::int64_t top_k = 0;  // keep the k likeliest; 0: all
  double top_p = 1;        // then the fewest that reach this probability
  std::uint64_t seed = 0;

  Status validate() const;
};

// The token at `step` of a continuation. Greedy takes the first of equal logits. The draw depends on seed and
// step alone.
TokenId sample_token(std::span<const float> logits, const SamplingOptions& options, std::uint64_t step);

struct GenerateOptions {
  std::int64_t max_new_tokens = 128;
  SamplingOptions sampling;
  std::vector<TokenId> stop_tokens;             // end of sequence; not part of the result
  std::function<bool(TokenId token)> on_token;  // false stops
};

// The continuation of `prompt`, without it. Stops before the model's last learned position.
Result<std::vector<TokenId>> generate(const Context& context, Transformer& model,
                                      std::span<const TokenId> prompt, const GenerateOptions& options);

}  // namespace nibble
