// SPDX-License-Identifier: Apache-2.0
#include "text/windows.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/hash.h"

namespace nibble {

std::string_view to_string(Convention convention) {
  return convention == Convention::kGptq ? "gptq" : "llama.cpp";
}

std::optional<Convention> convention_from_string(std::string_view name) {
  for (const Convention convention : {Convention::kGptq, Convention::kLlamaCpp}) {
    if (to_string(convention) == name) return convention;
  }
  return std::nullopt;
}

Result<std::vector<Window>> cut_windows(std::span<const TokenId> ids, const WindowOptions& options) {
  const bool half_scored = options.convention == Convention::kLlamaCpp;
  const std::size_t least = half_scored ? 4 : 2;
  if (ids.size() < least) {
    return bad_data(fmt::format("the text has {} tokens, perplexity needs at least {}", ids.size(), least),
                    "give a longer text");
  }
  const auto context = std::min(static_cast<std::size_t>(options.context), ids.size());
  std::size_t count = ids.size() / context;
  if (options.max_windows) count = std::min(count, static_cast<std::size_t>(*options.max_windows));
  std::vector<Window> windows(count);
  for (std::size_t w = 0; w < count; ++w) {
    const std::span<const TokenId> part = ids.subspan(w * context, context);
    windows[w].ids.assign(part.begin(), part.end());
    if (half_scored) {
      windows[w].first_prediction = static_cast<std::int64_t>(context / 2);
      if (options.bos) windows[w].ids.front() = *options.bos;
    }
  }
  return windows;
}

std::string token_hash(std::span<const Window> windows) {
  std::uint64_t hash = 0;
  for (const Window& window : windows) hash = xxh64(std::as_bytes(std::span(window.ids)), hash);
  return hex(hash);
}

}  // namespace nibble
