// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <optional>

#include "text/jinja/strings.h"

namespace nibble::jinja {
namespace {

constexpr std::array<std::string_view, 7> kLongOperators{"//", "**", "==", "!=", ">=", "<=", ""};
constexpr std::string_view kOperators = "+-/*%~[](){}><=.:|,;";

bool is_name_start(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_' || (c & 0x80) != 0;
}
bool is_name(char c) {
  return is_name_start(c) || std::isdigit(static_cast<unsigned char>(c)) != 0;
}
bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(with_plain_newlines(source)) {
    if (source_.ends_with('\n')) source_.pop_back();
  }

  Result<std::vector<Token>> run() {
    while (position_ < source_.size()) TRY(root());
    add(TokenKind::kEnd, {});
    return std::move(tokens_);
  }

 private:
  static std::string with_plain_newlines(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\r') {
        out += '\n';
        if (i + 1 < text.size() && text[i + 1] == '\n') ++i;
      } else {
        out += text[i];
      }
    }
    return out;
  }

  Error error(std::string what) const {
    return bad_data(std::move(what)).add_context(fmt::format("line {}", line_));
  }
  bool at(std::string_view word) const {
    return std::string_view(source_).substr(position_).starts_with(word);
  }
  char peek(std::size_t ahead = 0) const {
    return position_ + ahead < source_.size() ? source_[position_ + ahead] : '\0';
  }
  void advance(std::size_t count) {
    const auto begin = source_.begin() + static_cast<std::ptrdiff_t>(position_);
    line_ += static_cast<int>(std::count(begin, begin + static_cast<std::ptrdiff_t>(count), '\n'));
    position_ += count;
  }
  Token& add(TokenKind kind, std::string text) {
    tokens_.push_back({.kind = kind, .text = std::move(text), .line = line_});
    return tokens_.back();
  }
  void skip_spaces() {
    while (position_ < source_.size() && is_space(peek())) advance(1);
  }

  // Text up to the next tag, then the tag.
  Status root() {
    std::size_t tag = position_;
    while (true) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) {
        tag = source_.size();
        break;
      }
      const char next = source_[tag + 1];
      if (next == '%' || next == '{' || next == '#') break;
      ++tag;
    }
    std::string text = source_.substr(position_, tag - position_);
    const bool line_start = position_ == 0 || source_[position_ - 1] == '\n';
    if (tag == source_.size()) {
      add(TokenKind::kText, std::move(text));
      position_ = tag;
      return {};
    }
    const char type = source_[tag + 1];
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    strip_before_tag(text, sign, type != '{', line_start);
    if (!text.empty()) add(TokenKind::kText, std::move(text));
    advance(tag - position_ + 2);
    if (sign == '-' || sign == '+') advance(1);
    if (type == '#') return comment();
    if (type == '%' && at_raw()) return raw();
    return tag_body(type == '{');
  }

  // "-" eats all whitespace before a tag; otherwise a block or comment that stands alone so far on its line
  // eats the blanks of that line.
  static void strip_before_tag(std::string& text, char sign, bool block_or_comment, bool line_start) {
    if (sign == '-') {
      text = strip(text, std::nullopt, Side::kRight);
    } else if (sign != '+' && block_or_comment) {
      const std::size_t newline = text.rfind('\n');
      const std::size_t begin = newline == std::string::npos ? 0 : newline + 1;
      if ((begin > 0 || line_start) &&
          std::all_of(text.begin() + static_cast<std::ptrdiff_t>(begin), text.end(), is_space)) {
        text.resize(begin);
      }
    }
  }

  // After "%}" or "#}": "-" eats whitespace, otherwise one newline goes (trim_blocks).
  void after_block(char sign) {
    if (sign == '-') return skip_spaces();
    if (sign != '+' && peek() == '\n') advance(1);
  }

  Status comment() {
    const std::size_t end = source_.find("#}", position_);
    if (end == std::string::npos) return error("a comment {# is not closed");
    const char sign = end > position_ ? source_[end - 1] : '\0';
    advance(end + 2 - position_);
    after_block(sign == '-' || sign == '+' ? sign : '\0');
    return {};
  }

  bool at_raw() const {
    std::size_t i = position_;
    while (i < source_.size() && is_space(source_[i])) ++i;
    if (std::string_view(source_).substr(i, 3) != "raw") return false;
    i += 3;
    while (i < source_.size() && is_space(source_[i])) ++i;
    return std::string_view(source_).substr(i).starts_with("%}") ||
           std::string_view(source_).substr(i).starts_with("-%}");
  }

  Status raw() {
    const std::size_t close = source_.find("%}", position_);
    const bool strip_first = source_[close - 1] == '-';
    advance(close + 2 - position_);
    if (strip_first) skip_spaces();
    const std::size_t begin = position_;
    for (std::size_t tag = source_.find("{%", begin); tag != std::string::npos;
         tag = source_.find("{%", tag + 2)) {
      std::size_t i = tag + 2;
      const char sign = i < source_.size() ? source_[i] : '\0';
      if (sign == '-' || sign == '+') ++i;
      while (i < source_.size() && is_space(source_[i])) ++i;
      if (std::string_view(source_).substr(i, 6) != "endraw") continue;
      i += 6;
      while (i < source_.size() && is_space(source_[i])) ++i;
      const char end_sign =
          i < source_.size() && (source_[i] == '-' || source_[i] == '+') ? source_[i++] : '\0';
      if (std::string_view(source_).substr(i, 2) != "%}") continue;
      std::string text = source_.substr(begin, tag - begin);
      strip_before_tag(text, sign, true, begin == 0 || source_[begin - 1] == '\n');
      add(TokenKind::kText, std::move(text));
      advance(i + 2 - position_);
      after_block(end_sign);
      return {};
    }
    return error("{% raw %} is not closed");
  }

  // Tokens up to "}}" or "%}" outside brackets.
  Status tag_body(bool print) {
    add(print ? TokenKind::kPrintBegin : TokenKind::kBlockBegin, {});
    const std::string_view close = print ? "}}" : "%}";
    std::string brackets;
    while (true) {
      skip_spaces();
      if (position_ >= source_.size()) return error(fmt::format("a tag is not closed with {}", close));
      const char sign = peek() == '-' || (!print && peek() == '+') ? peek() : '\0';
      const std::size_t skip = sign == '\0' ? 0 : 1;
      if (brackets.empty() && std::string_view(source_).substr(position_ + skip).starts_with(close)) {
        add(print ? TokenKind::kPrintEnd : TokenKind::kBlockEnd, {});
        advance(2 + skip);
        if (!print) after_block(sign);
        if (print && sign == '-') skip_spaces();
        return {};
      }
      TRY(token(brackets));
    }
  }

  Status token(std::string& brackets) {
    const char c = peek();
    if (c == '"' || c == '\'') return string_literal();
    if (std::isdigit(static_cast<unsigned char>(c)) != 0) return number();
    if (is_name_start(c)) {
      std::size_t length = 1;
      while (is_name(peek(length))) ++length;
      add(TokenKind::kName, source_.substr(position_, length));
      advance(length);
      return {};
    }
    return operator_token(brackets);
  }

  Status operator_token(std::string& brackets) {
    for (const std::string_view word : kLongOperators) {
      if (!word.empty() && at(word)) {
        add(TokenKind::kOperator, std::string(word));
        advance(word.size());
        return {};
      }
    }
    const char c = peek();
    if (kOperators.find(c) == std::string_view::npos)
      return error(fmt::format("unexpected character \"{}\"", c));
    if (c == '(' || c == '[' || c == '{') brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (brackets.empty() || brackets.back() != c) return error(fmt::format("unexpected \"{}\"", c));
      brackets.pop_back();
    }
    add(TokenKind::kOperator, std::string(1, c));
    advance(1);
    return {};
  }

  Status string_literal() {
    const char quote = peek();
    std::size_t end = position_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) return error("a string is not closed");
    const std::string_view body = std::string_view(source_).substr(position_ + 1, end - position_ - 1);
    std::optional<std::string> text = unescape(body);
    if (!text) return error("a string holds a damaged escape sequence");
    add(TokenKind::kString, *std::move(text));
    advance(end + 1 - position_);
    return {};
  }

  Status number() {
    std::size_t length = 0;
    const auto digits = [&] {
      while (std::isdigit(static_cast<unsigned char>(peek(length))) != 0 || peek(length) == '_') ++length;
    };
    int base = 10;
    if (peek() == '0' && (peek(1) == 'x' || peek(1) == 'X' || peek(1) == 'o' || peek(1) == 'b')) {
      base = peek(1) == 'o' ? 8 : peek(1) == 'b' ? 2 : 16;
      length = 2;
      while (std::isxdigit(static_cast<unsigned char>(peek(length))) != 0 || peek(length) == '_') ++length;
    } else {
      digits();
    }
    bool real = false;
    if (base == 10 && peek(length) == '.' &&
        std::isdigit(static_cast<unsigned char>(peek(length + 1))) != 0) {
      real = true;
      ++length;
      digits();
    }
    const bool exponent = peek(length) == 'e' || peek(length) == 'E';
    const std::size_t sign = exponent && (peek(length + 1) == '+' || peek(length + 1) == '-') ? 1 : 0;
    if (base == 10 && exponent && std::isdigit(static_cast<unsigned char>(peek(length + 1 + sign))) != 0) {
      real = true;
      length += 1 + sign;
      digits();
    }
    std::string text = source_.substr(position_, length);
    std::erase(text, '_');
    Token& token = add(real ? TokenKind::kFloat : TokenKind::kInteger, text);
    const char* begin = text.data() + (base == 10 ? 0 : 2);
    const char* end = text.data() + text.size();
    const auto parsed =
        real ? std::from_chars(begin, end, token.real) : std::from_chars(begin, end, token.integer, base);
    if (parsed.ec != std::errc() || parsed.ptr != end) return error(fmt::format("\"{}\" is no number", text));
    advance(length);
    return {};
  }

  std::string source_;
  std::size_t position_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

Result<std::vector<Token>> tokenize_template(std::string_view source) {
  return Lexer(source).run();
}

}  // namespace nibble::jinja
