// SPDX-License-Identifier: Apache-2.0
// Differences handled (Oniguruma 6.9, doc/RE and doc/SYNTAX.md; PCRE2 10.42, pcre2pattern):
//   \s \w \h  other sets of characters             written out as properties
//   ^ $       match at every line                  (?m)
//   (?m)      means what Perl calls s              letter changed
//   {n,m}+    a repeated interval, not possessive  (?:x{n,m})+
//   &&        class intersection, a literal to PCRE2    refused
#include "text/tokenizer/regex_dialect.h"

#include <fmt/format.h>

#include <optional>
#include <vector>

namespace nibble::text {
namespace {

struct Escape {
  char letter;
  std::string_view inside;  // as members of a class; empty: not possible there
  std::string_view outside;
};

// \w of Oniguruma is Letter | Mark | Decimal_Number | Connector_Punctuation.
constexpr Escape kEscapes[] = {
    {'s', R"(\p{White_Space})", R"(\p{White_Space})"},
    {'S', R"(\P{White_Space})", R"(\P{White_Space})"},
    {'w', R"(\p{L}\p{M}\p{Nd}\p{Pc})", R"([\p{L}\p{M}\p{Nd}\p{Pc}])"},
    {'W', "", R"([^\p{L}\p{M}\p{Nd}\p{Pc}])"},
    {'h', "0-9a-fA-F", "[0-9a-fA-F]"},
    {'H', "", "[^0-9a-fA-F]"},
};

class Translator {
 public:
  explicit Translator(std::string_view expression) : in_(expression) {}

  Result<std::string> run() {
    out_ = "(?m)";
    while (at_ < in_.size()) TRY(step());
    return std::move(out_);
  }

 private:
  Status step() {
    const char c = in_[at_];
    if (c == '\\') return escape(false);
    if (c == '[') return character_class();
    if (c == '(') return open_group();
    if (c == ')') {
      atom_ = groups_.empty() ? out_.size() : groups_.back();
      if (!groups_.empty()) groups_.pop_back();
      copy(1);
      return {};
    }
    if (c == '{') return interval();
    const bool repeats = c == '*' || c == '+' || c == '?';
    if (!repeats) atom_ = out_.size();
    copy_char();
    return {};
  }

  Status open_group() {
    groups_.push_back(out_.size());
    copy(1);
    if (at_ >= in_.size() || in_[at_] != '?') return {};
    copy(1);
    // Inline options: letters up to ':' or ')'. Oniguruma's m is Perl's s.
    std::size_t end = at_;
    while (end < in_.size() && std::string_view("imx-").find(in_[end]) != std::string_view::npos) ++end;
    const bool options = end > at_ && end < in_.size() && (in_[end] == ':' || in_[end] == ')');
    for (; options && at_ < end; ++at_) out_ += in_[at_] == 'm' ? 's' : in_[at_];
    // Leaves "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?<name>", "(?#" to be copied as they are.
    while (!options && at_ < in_.size() &&
           std::string_view("=!<>:#").find(in_[at_]) != std::string_view::npos)
      copy(1);
    return {};
  }

  // An interval followed by '+' repeats the interval in Ruby's syntax; PCRE2 would make it possessive.
  Status interval() {
    const std::size_t close = in_.find('}', at_);
    const bool valid =
        close != std::string_view::npos && close > at_ + 1 &&
        in_.substr(at_ + 1, close - at_ - 1).find_first_not_of("0123456789,") == std::string_view::npos;
    if (!valid) {
      atom_ = out_.size();
      out_ += "\\{";
      ++at_;
      return {};
    }
    const std::string quantifier(in_.substr(at_, close - at_ + 1));
    at_ = close + 1;
    if (at_ < in_.size() && in_[at_] == '+') {
      out_.insert(atom_, "(?:");
      out_ += quantifier + ")";
    } else {
      out_ += quantifier.starts_with("{,") ? "{0" + quantifier.substr(1) : quantifier;
    }
    return {};
  }

  Status escape(bool in_class) {
    if (at_ + 1 >= in_.size())
      return bad_data(fmt::format("the expression \"{}\" ends with a backslash", in_));
    const char letter = in_[at_ + 1];
    if (!in_class) atom_ = out_.size();
    for (const Escape& known : kEscapes) {
      if (known.letter != letter) continue;
      const std::string_view text = in_class ? known.inside : known.outside;
      if (text.empty()) {
        return bad_data(fmt::format("\\{} inside a character class is not supported in \"{}\"", letter, in_));
      }
      out_ += text;
      at_ += 2;
      return {};
    }
    copy(1);
    const bool named = (letter == 'p' || letter == 'P') && at_ + 1 < in_.size() && in_[at_ + 1] == '{';
    const std::size_t close = named ? in_.find('}', at_) : std::string_view::npos;
    if (close != std::string_view::npos) {
      copy(close - at_ + 1);
    } else if (letter == 'u' && at_ + 5 <= in_.size()) {  // \uHHHH
      out_ += "x{" + std::string(in_.substr(at_ + 1, 4)) + "}";
      at_ += 5;
    } else {
      copy_char();
    }
    return {};
  }

  Status character_class() {
    atom_ = out_.size();
    copy(1);
    if (at_ < in_.size() && in_[at_] == '^') copy(1);
    if (at_ < in_.size() && in_[at_] == ']') copy(1);
    int nested = 0;  // [a[bc]] is a union, the same as [abc]
    while (at_ < in_.size() && (in_[at_] != ']' || nested > 0)) {
      if (in_.substr(at_, 2) == "&&" || in_.substr(at_, 2) == "[^") {
        return bad_data(fmt::format("{} inside a class is not supported in the expression \"{}\"",
                                    in_[at_] == '&' ? "intersection (&&)" : "a negated class", in_),
                        "write it with a look-ahead, as in (?=[a-z])[^aeiou]");
      }
      if (in_[at_] == '\\') {
        TRY(escape(true));
      } else if (in_.substr(at_, 2) == "[:" && in_.find(":]", at_) != std::string_view::npos) {
        copy(in_.find(":]", at_) + 2 - at_);
      } else if (in_[at_] == '[' || in_[at_] == ']') {
        nested += in_[at_++] == '[' ? 1 : -1;
      } else {
        copy_char();
      }
    }
    if (at_ >= in_.size()) return bad_data(fmt::format("a character class of \"{}\" is not closed", in_));
    copy(1);
    return {};
  }

  void copy(std::size_t count) {
    out_ += in_.substr(at_, count);
    at_ += count;
  }
  void copy_char() {
    std::size_t count = 1;
    while (at_ + count < in_.size() && (static_cast<unsigned char>(in_[at_ + count]) & 0xC0) == 0x80) ++count;
    copy(count);
  }

  std::string_view in_;
  std::size_t at_ = 0;
  std::string out_;
  std::size_t atom_ = 0;             // where the last atom begins in out_
  std::vector<std::size_t> groups_;  // where open groups begin in out_
};

}  // namespace

Result<std::string> oniguruma_to_pcre2(std::string_view expression) {
  return Translator(expression).run();
}

Result<Regex> compile_oniguruma(std::string_view expression) {
  TRY_ASSIGN(const std::string pattern, oniguruma_to_pcre2(expression));
  Result<Regex> compiled = Regex::compile(pattern);
  if (!compiled.ok()) return bad_data(fmt::format("in \"{}\": {}", expression, compiled.error().what));
  return compiled;
}

}  // namespace nibble::text
