// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/components.h"

#include "text/tokenizer/regex_dialect.h"
#include "text/tokenizer/unicode.h"

namespace nibble::text {

Result<char32_t> json_char_or(const Json& object, std::string_view key, char32_t otherwise) {
  TRY_ASSIGN(const std::string text, json_string_or(object, key, ""));
  if (text.empty()) return otherwise;
  if (count_chars(text) != 1)
    return bad_data(fmt::format("\"{}\" must be one character, found \"{}\"", key, text));
  return decode_char(text.data()).code;
}

Result<Pattern> Pattern::from_json(const Json& object, std::string_view key) {
  const auto found = object.find(std::string(key));
  if (found == object.end()) return bad_data(fmt::format("the key \"{}\" is missing", key));
  if (found->is_string()) return Pattern(found->get<std::string>());
  if (found->is_object() && found->contains("String")) {
    TRY_ASSIGN(std::string text, json_string(*found, "String"));
    if (text.empty())
      return bad_data(fmt::format("the string of \"{}\" is empty and would match everywhere", key));
    return Pattern(std::move(text));
  }
  if (found->is_object() && found->contains("Regex")) {
    TRY_ASSIGN(const std::string expression, json_string(*found, "Regex"));
    TRY_ASSIGN(Regex compiled, compile_oniguruma(expression));
    Pattern pattern(std::move(compiled));
    pattern.linear_ = linear_finder(expression);
    return pattern;
  }
  return bad_data(fmt::format("\"{}\" must be {{\"String\": ...}} or {{\"Regex\": ...}}", key));
}

Status Pattern::for_each(std::string_view text,
                         const std::function<void(std::size_t, std::size_t, bool)>& visit) const {
  if (text.empty()) return {};  // also for expressions that match nothing
  std::size_t done = 0;
  const auto match = [&](std::size_t begin, std::size_t end) {
    if (begin > done) visit(done, begin, false);
    visit(begin, end, true);
    done = end;
  };
  if (linear_ != nullptr) {
    linear_(text, match);
  } else if (regex_) {
    TRY(regex_->for_each_match(text, match));
  } else {
    for (std::size_t at = text.find(literal_); at != std::string_view::npos; at = text.find(literal_, done)) {
      match(at, at + literal_.size());
    }
  }
  if (done < text.size()) visit(done, text.size(), false);
  return {};
}

}  // namespace nibble::text
