// SPDX-License-Identifier: Apache-2.0
// Reading the "type"-tagged parts of tokenizer.json from tables of makers, and the patterns they contain.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/regex.h"
#include "base/suggest.h"
#include "text/tokenizer/linear_patterns.h"

namespace nibble::text {

template <class Part>
struct Maker {
  std::string_view type;
  Result<std::unique_ptr<Part>> (*make)(const Json& description);
};

// Finds the maker of description["type"]; `kind` is the word for messages ("pre-tokenizer").
template <class Part>
Result<std::unique_ptr<Part>> make_part(const Json& description, std::span<const Maker<Part>> makers,
                                        std::string_view kind) {
  TRY_ASSIGN(const std::string type, json_string(description, "type").at(kind));
  for (const Maker<Part>& maker : makers) {
    if (maker.type == type) return maker.make(description).at(fmt::format("{} {}", kind, type));
  }
  std::vector<std::string> names;
  for (const Maker<Part>& maker : makers) names.emplace_back(maker.type);
  const std::string guess = did_you_mean(type, names);
  return bad_data(fmt::format("unknown {} type \"{}\"; known are {}", kind, type, join_or(names)), guess);
}

// The array `key` of a Sequence, each made by `make`.
template <class Part, class Make>
Result<std::vector<std::unique_ptr<Part>>> make_sequence(const Json& description, std::string_view key,
                                                         Make make) {
  const auto found = description.find(std::string(key));
  if (found == description.end() || !found->is_array())
    return bad_data(fmt::format("\"{}\" must be an array", key));
  std::vector<std::unique_ptr<Part>> parts;
  for (const Json& item : *found) {
    TRY_ASSIGN(std::unique_ptr<Part> part, make(item));
    parts.push_back(std::move(part));
  }
  return parts;
}

// One character, as JSON string `key`.
Result<char32_t> json_char_or(const Json& object, std::string_view key, char32_t otherwise);

// {"String": s} (or a bare string) is matched literally, {"Regex": r} in Oniguruma's syntax (see
// regex_dialect.h).
class Pattern {
 public:
  static Result<Pattern> from_json(const Json& object, std::string_view key);
  static Pattern literal(std::string text) { return Pattern(std::move(text)); }

  // Calls visit(begin, end, matched) for matches and the gaps between them, in order, covering `text`. An
  // expression may fail on a text (Regex::for_each_match).
  Status for_each(std::string_view text,
                  const std::function<void(std::size_t, std::size_t, bool)>& visit) const;
  const std::string* literal_text() const { return regex_ ? nullptr : &literal_; }

 private:
  explicit Pattern(std::string text) : literal_(std::move(text)) {}
  explicit Pattern(Regex expression) : regex_(std::move(expression)) {}
  std::string literal_;
  std::optional<Regex> regex_;
  LinearFinder linear_ = nullptr;  // finds what regex_ does
};

}  // namespace nibble::text
