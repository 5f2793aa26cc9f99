// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/splitting.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "base/json.h"

namespace nibble::text {

Result<SplitBehavior> split_behavior(const Json& description, std::optional<SplitBehavior> otherwise) {
  struct Named {
    std::string_view name;
    SplitBehavior behavior;
  };
  constexpr Named kNames[] = {{"removed", SplitBehavior::kRemoved},
                              {"isolated", SplitBehavior::kIsolated},
                              {"mergedwithprevious", SplitBehavior::kMergedWithPrevious},
                              {"mergedwithnext", SplitBehavior::kMergedWithNext},
                              {"contiguous", SplitBehavior::kContiguous}};
  TRY_ASSIGN(const std::string given, json_string_or(description, "behavior", ""));
  if (given.empty() && otherwise) return *otherwise;
  std::string plain;
  for (const char c : given) {
    if (c != '_') plain.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  }
  for (const Named& named : kNames) {
    if (named.name == plain) return named.behavior;
  }
  return bad_data(
      fmt::format("\"behavior\" must be Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous, "
                  "found \"{}\"",
                  given));
}

void Splitter::add_joining(Span span, bool matched) {
  const bool joinable = out_.size() > first_;
  bool join = false;
  switch (behavior_) {
    case SplitBehavior::kRemoved:
      if (!matched) out_.push_back(span);
      return;
    case SplitBehavior::kMergedWithPrevious:
      join = matched && !last_matched_;
      break;
    case SplitBehavior::kMergedWithNext:  // a match waits in out_ for the gap that follows it
      join = !matched && last_matched_;
      break;
    default:  // contiguous; the first one joins nothing
      join = matched == last_matched_;
      break;
  }
  last_matched_ = matched;
  if (join && joinable) {
    out_.back().end = span.end;
  } else {
    out_.push_back(span);  // also an empty one: a match of nothing keeps its neighbours apart
  }
}

void Splitter::drop_empty() {
  const auto first = out_.begin() + static_cast<std::ptrdiff_t>(first_);
  out_.erase(std::remove_if(first, out_.end(), [](const Span& span) { return span.begin == span.end; }),
             out_.end());
}

}  // namespace nibble::text
