// SPDX-License-Identifier: Apache-2.0
// From documents of token ids to calibration samples: pure functions with the meaning that llm-compressor's
// data arguments have, and a seed where it has none.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace nibble {

using TokenIds = std::vector<TokenId>;

// 0 ... count-1 in an order that depends on the seed alone.
std::vector<std::int64_t> shuffled_order(std::int64_t count, std::uint64_t seed);
// Longest first; equal lengths keep their order (`shuffle_calibration_samples: false`).
std::vector<std::int64_t> longest_first(std::span<const TokenIds> samples);

// `concatenate_data`: all ids in one row, cut into blocks of `max_seq_length`; the tail is dropped.
std::vector<TokenIds> concatenated_blocks(std::span<const TokenIds> documents, std::int64_t max_seq_length);
// `max_seq_length`: what lies beyond is cut off.
void truncate_samples(std::vector<TokenIds>& samples, std::int64_t max_seq_length);

// A batch of equal lengths. Padded positions have mask 0 and never enter a statistic.
struct SampleBatch {
  std::vector<TokenIds> ids{};
  std::vector<std::int64_t> lengths{};  // of the tokens that are not padding
};
enum class Collator {
  kTruncation,  // every sample is cut to the shortest of its batch
  kPadding,     // every sample is padded to the longest
};
std::string_view to_string(Collator collator);  // "truncation", "padding"
std::optional<Collator> collator_from_string(std::string_view name);
// `pad_to` > 0 pads (with either collator) to this length (`pad_to_max_length`).
std::vector<SampleBatch> collate(std::span<const TokenIds> samples, std::int64_t batch_size,
                                 Collator collator, TokenId pad, std::int64_t pad_to = 0);

// Blocks as the AWQ family takes them from the Pile: empty documents and those longer than `max_seq_length`
// are skipped, the first `most` others joined and cut into blocks of `max_seq_length`, the tail dropped.
std::vector<TokenIds> short_document_blocks(std::span<const TokenIds> documents, std::int64_t max_seq_length,
                                            std::int64_t most);

}  // namespace nibble
