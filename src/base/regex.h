// SPDX-License-Identifier: Apache-2.0
// Regular expressions with Python's meaning (PCRE2, UTF-8): recipe patterns and pre-tokenizers need
// look-around.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"

namespace nibble {

class Regex {
 public:
  // The error shows the pattern and the position.
  static Result<Regex> compile(std::string_view pattern);

  // Python's re.match: anchored at the start, not at the end. Not knowing (see for_each_match) is an error,
  // as is a text that is not UTF-8.
  Result<bool> matches_prefix(std::string_view text) const;
  // Calls visit(begin, end) for all matches from left to right; an empty match right behind the last one is
  // passed over. `text` must be valid UTF-8 (it is not checked again, so a long text costs one pass). An
  // error when one match takes more steps or memory than a text of this length can need without backtracking
  // over and over.
  Status for_each_match(std::string_view text,
                        const std::function<void(std::size_t, std::size_t)>& visit) const;
  const std::string& pattern() const;

 private:
  struct Code;
  explicit Regex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  std::shared_ptr<const Code> code_;
};

}  // namespace nibble
