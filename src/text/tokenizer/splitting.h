// SPDX-License-Identifier: Apache-2.0
// The five ways in which a pattern can cut a piece (SplitDelimiterBehavior of Hugging Face tokenizers).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "text/tokenizer/pre_tokenizer.h"

namespace nibble::text {

// The key "behavior"; both CamelCase and snake_case are in use.
Result<SplitBehavior> split_behavior(const Json& description, std::optional<SplitBehavior> otherwise);

// Receives matches and the gaps between them from left to right, and appends the resulting spans.
class Splitter {
 public:
  Splitter(std::vector<Span>& out, SplitBehavior behavior, bool invert)
      : out_(out), behavior_(behavior), invert_(invert) {}

  void start(std::uint32_t base) {
    base_ = base;
    first_ = out_.size();
    last_matched_ = false;
  }
  void add(std::size_t begin, std::size_t end, bool matched) {
    const Span span{base_ + static_cast<std::uint32_t>(begin), base_ + static_cast<std::uint32_t>(end)};
    if (behavior_ == SplitBehavior::kIsolated) {
      if (begin < end) out_.push_back(span);
    } else {
      add_joining(span, matched != invert_);
    }
  }
  void finish() {
    if (behavior_ != SplitBehavior::kIsolated) drop_empty();
  }

 private:
  void add_joining(Span span, bool matched);
  void drop_empty();

  std::vector<Span>& out_;
  SplitBehavior behavior_;
  bool invert_;
  std::uint32_t base_ = 0;
  std::size_t first_ = 0;  // where the spans of this piece begin in out_
  bool last_matched_ = false;
};

// Cuts every span of `pieces`; find(text, splitter) reports matches and gaps of one span.
template <class Find>
void split_pieces(Pieces& pieces, SplitBehavior behavior, bool invert, Find find) {
  std::vector<Span> out;
  out.reserve(pieces.spans.size() + pieces.text.bytes.size() / 4);
  Splitter splitter(out, behavior, invert);
  for (const Span& span : pieces.spans) {
    splitter.start(span.begin);
    find(std::string_view(pieces.text.bytes).substr(span.begin, span.end - span.begin), splitter);
    splitter.finish();
  }
  pieces.spans = std::move(out);
}

}  // namespace nibble::text
