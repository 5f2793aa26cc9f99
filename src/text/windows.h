// SPDX-License-Identifier: Apache-2.0
// How a long text becomes windows of token ids, by the two conventions of the field. Figures of different
// conventions, contexts or window counts cannot be compared: reports always name all three.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/tokenizer.h"

namespace nibble {

enum class Convention {
  // GPTQ and its family: the text tokenised once, windows without overlap, the tail dropped, every prediction
  // scored.
  kGptq,
  // llama.cpp's perplexity: the first token of each window becomes BOS if the model wants one, and only
  // predictions
  // from the middle on are scored.
  kLlamaCpp,
};
std::string_view to_string(Convention convention);  // "gptq", "llama.cpp"
std::optional<Convention> convention_from_string(std::string_view name);

struct Window {
  std::vector<TokenId> ids;
  std::int64_t first_prediction = 0;  // predictions of ids[t + 1] from ids[.. t] count for t >= this

  std::int64_t predictions() const { return static_cast<std::int64_t>(ids.size()) - 1 - first_prediction; }
};

struct WindowOptions {
  Convention convention = Convention::kGptq;
  std::int64_t context = 2048;
  std::optional<std::int64_t> max_windows;
  std::optional<TokenId> bos;  // llama.cpp's convention: put at the start of each window
};

// A text shorter than one window gives one short window; fewer than two ids (four for llama.cpp) are an
// error.
Result<std::vector<Window>> cut_windows(std::span<const TokenId> ids, const WindowOptions& options);

// A fingerprint of the ids of all windows: equal hashes mean equal tokens.
std::string token_hash(std::span<const Window> windows);

}  // namespace nibble
