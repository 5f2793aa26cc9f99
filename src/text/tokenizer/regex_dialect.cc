// SPDX-License-Identifier: Apache-2.0
// Differences handled (Oniguruma 6.9, doc/RE and doc/SYNTAX.md; PCRE2 10.42, pcre2pattern):
//   \s \w \h \b [:alpha:]  other sets of characters   written out as properties
//   \p{Han}   a script; PCRE2 means its extensions   \p{sc:Han}
//   ^ $       match at every line                  (?m)
//   (?m)      means what Perl calls s              letter changed
//   {n,m}+    a repeated interval, not possessive  (?:x{n,m})+
//   [a[^b]&&c]  classes in classes and intersections, literals to PCRE2: look-aheads and alternatives
#include "text/tokenizer/regex_dialect.h"

#include <fmt/format.h>

#include <optional>
#include <vector>

#include "text/tokenizer/unicode.h"

namespace nibble::text {
namespace {

struct Escape {
  char letter;
  std::string_view inside;  // as members of a class; empty: not possible there
  std::string_view outside;
};

// \w of Oniguruma: the property Alphabetic, marks, digits and connectors; outside of classes also the
// superscripts and fractions of Latin-1 (so it behaves, its manual does not say).
#define NIBBLE_WORD R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})"
#define NIBBLE_FREE_WORD NIBBLE_WORD R"(\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})"
constexpr Escape kEscapes[] = {
    {'s', R"(\p{White_Space})", R"(\p{White_Space})"},
    {'S', R"(\P{White_Space})", R"(\P{White_Space})"},
    {'w', NIBBLE_WORD, "[" NIBBLE_FREE_WORD "]"},
    {'W', "", "[^" NIBBLE_FREE_WORD "]"},
    {'b', "\\b",
     "(?:(?<=[" NIBBLE_FREE_WORD "])(?![" NIBBLE_FREE_WORD "])|(?<![" NIBBLE_FREE_WORD
     "])(?=[" NIBBLE_FREE_WORD "]))"},
    {'h', "0-9a-fA-F", "[0-9a-fA-F]"},
    {'H', "", "[^0-9a-fA-F]"},
};

// POSIX brackets are Unicode sets in Oniguruma.
constexpr std::pair<std::string_view, std::string_view> kPosix[] = {
    {"[:alpha:]", R"(\p{Alphabetic})"}, {"[:alnum:]", R"(\p{Alphabetic}\p{Nd})"},
    {"[:punct:]", R"(\p{P}\p{S})"},     {"[:space:]", R"(\p{White_Space})"},
    {"[:digit:]", R"(\p{Nd})"},         {"[:upper:]", R"(\p{Uppercase})"},
    {"[:lower:]", R"(\p{Lowercase})"},  {"[:word:]", NIBBLE_WORD},
    {"[:blank:]", R"(\t\p{Zs})"},       {"[:cntrl:]", R"(\p{Cc})"},
    {"[:xdigit:]", "0-9a-fA-F"},
};
constexpr std::string_view kNotWord = "[^" NIBBLE_WORD "]";
#undef NIBBLE_WORD
#undef NIBBLE_FREE_WORD

constexpr int kMaxNesting = 16;

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
    if (c == '\\') return escape();
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

  // What stands for the escape at at_, outside classes.
  Status escape() {
    atom_ = out_.size();
    TRY_ASSIGN(const Member member, escaped());
    out_ += member.outside;
    return {};
  }

  struct Member {
    std::string inside;  // as a member of a class; empty when it can only be an alternative to one
    std::string outside;
  };

  Result<Member> escaped() {
    if (at_ + 1 >= in_.size())
      return bad_data(fmt::format("the expression \"{}\" ends with a backslash", in_));
    const char letter = in_[at_ + 1];
    for (const Escape& known : kEscapes) {
      if (known.letter != letter) continue;
      at_ += 2;
      return Member{std::string(known.inside), std::string(known.outside)};
    }
    std::string text;
    const bool named = (letter == 'p' || letter == 'P') && at_ + 2 < in_.size() && in_[at_ + 2] == '{';
    const std::size_t close = named ? in_.find('}', at_) : std::string_view::npos;
    if (close != std::string_view::npos) {
      text = property(letter, in_.substr(at_ + 3, close - at_ - 3));
      at_ = close + 1;
    } else if (letter == 'u' && at_ + 6 <= in_.size()) {
      text = "\\x{" + std::string(in_.substr(at_ + 2, 4)) + "}";
      at_ += 6;
    } else {
      const std::size_t length = 1 + char_length(letter);
      text = in_.substr(at_, length);
      at_ += length;
    }
    return Member{text, text};
  }

  // PCRE2 takes a bare script for its extensions.
  static std::string property(char letter, std::string_view name) {
    const bool negated = name.starts_with('^');
    const std::string script =
        fmt::format("\\{}{{{}sc:{}}}", letter, negated ? "^" : "", name.substr(negated ? 1 : 0));
    if (name.size() > 2 && Regex::compile(script).ok()) return script;
    return fmt::format("\\{}{{{}}}", letter, name);
  }

  Status character_class() {
    atom_ = out_.size();
    TRY_ASSIGN(const Class parsed, read_class(0));
    out_ += parsed.expression();
    return {};
  }

  // A set of characters: [members], or, where that is not enough, an expression that matches one character.
  struct Class {
    std::string members;
    std::vector<std::string> alternatives;
    bool negated_members = false;  // [^members], when there is nothing else

    std::string expression() const {
      if (negated_members) return "[^" + members + "]";
      if (alternatives.empty()) return "[" + members + "]";
      const std::string listed = members.empty() ? "" : "|[" + members + "]";
      return fmt::format("(?:{}{})", fmt::join(alternatives, "|"), listed);
    }
  };

  Result<Class> read_class(int depth) {
    if (depth > kMaxNesting) return bad_data(fmt::format("classes nested too deeply in \"{}\"", in_));
    ++at_;  // the bracket
    const bool negated = at_ < in_.size() && in_[at_] == '^';
    if (negated) ++at_;
    Class set;
    std::string conditions;  // what stood before "&&"
    if (at_ < in_.size() && in_[at_] == ']') add_char(set);
    while (at_ < in_.size() && in_[at_] != ']') {
      if (in_.substr(at_, 2) == "&&") {
        conditions += "(?=" + set.expression() + ")";
        set = Class();
        at_ += 2;
      } else if (in_[at_] == '\\') {
        TRY_ASSIGN(const Member member, escaped());
        member.inside.empty()
            ? set.alternatives.push_back(in_[at_ - 1] == 'W' ? std::string(kNotWord) : member.outside)
            : void(set.members += member.inside);
      } else if (in_.substr(at_, 2) == "[:" && in_.find(":]", at_) != std::string_view::npos) {
        TRY(posix_bracket(set));
      } else if (in_[at_] == '[') {
        TRY_ASSIGN(const Class nested, read_class(depth + 1));
        const bool plain = nested.alternatives.empty() && !nested.negated_members;
        plain ? void(set.members += nested.members) : set.alternatives.push_back(nested.expression());
      } else {
        add_char(set);
      }
    }
    if (at_ >= in_.size()) return bad_data(fmt::format("a character class of \"{}\" is not closed", in_));
    ++at_;
    if (set.members.empty() && set.alternatives.empty())
      return bad_data(fmt::format("an empty class in \"{}\"", in_));
    if (negated && conditions.empty() && set.alternatives.empty()) {
      set.negated_members = true;
      return set;
    }
    if (!conditions.empty()) set = Class{"", {conditions + set.expression()}};
    return negated ? Class{"", {"(?!" + set.expression() + ")(?s:.)"}} : set;
  }

  Status posix_bracket(Class& set) {
    const std::string_view name = in_.substr(at_, in_.find(":]", at_) + 2 - at_);
    for (const auto& [known, members] : kPosix) {
      if (known != name) continue;
      set.members += members;
      at_ += name.size();
      return {};
    }
    return bad_data(fmt::format("the bracket {} is not supported in \"{}\"", name, in_));
  }

  void add_char(Class& set) {
    const std::size_t length = char_length(in_[at_]);
    if (in_[at_] == ']') set.members += '\\';
    set.members += in_.substr(at_, length);
    at_ += length;
  }

  void copy(std::size_t count) {
    out_ += in_.substr(at_, count);
    at_ += count;
  }
  void copy_char() { copy(char_length(in_[at_])); }

  std::string_view in_;
  std::size_t at_ = 0;
  std::string out_;
  std::size_t atom_ = 0;             // where the last atom begins in out_
  std::vector<std::size_t> groups_;  // where open groups begin in out_
};

}  // namespace

Result<std::string> oniguruma_to_pcre2(std::string_view expression) {
  if (!is_valid_utf8(expression)) return bad_data("a regular expression is not valid UTF-8");
  return Translator(expression).run();
}

Result<Regex> compile_oniguruma(std::string_view expression) {
  TRY_ASSIGN(const std::string pattern, oniguruma_to_pcre2(expression));
  Result<Regex> compiled = Regex::compile(pattern);
  if (!compiled.ok()) return bad_data(fmt::format("in \"{}\": {}", expression, compiled.error().what));
  return compiled;
}

}  // namespace nibble::text
