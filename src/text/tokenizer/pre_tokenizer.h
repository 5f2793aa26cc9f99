// SPDX-License-Identifier: Apache-2.0
// Pre-tokenizers of tokenizer.json: they cut a normalized text into pieces that the model treats one by one.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/error.h"
#include "base/json_fwd.h"
#include "text/tokenizer/tracked_text.h"

namespace nibble::text {

struct Pieces {
  TrackedText text;
  std::vector<Span> spans;  // non-empty, in order, not overlapping
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  // Fails as Pattern::for_each and check_growth() do.
  virtual Status apply(Pieces& pieces) const = 0;
};

struct PreTokenizerPlan {
  std::unique_ptr<PreTokenizer> pre_tokenizer;  // may be null: the text is one piece
  // The last step was a ByteLevel: its change of alphabet is left out and the model must work on raw bytes.
  // (A ByteLevel in another place really rewrites the text, because later steps see the rewritten
  // characters.)
  bool raw_bytes = false;
};

// `allow_raw_bytes`: the model can work on raw bytes.
Result<PreTokenizerPlan> make_pre_tokenizer(const Json& description, bool allow_raw_bytes);

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

}  // namespace nibble::text
