// SPDX-License-Identifier: Apache-2.0
// The statements of a template: {% if %}, {% for %}, {% set %}, {% macro %} and their like.
#include <fmt/format.h>

#include <algorithm>

#include "base/suggest.h"
#include "text/jinja/parser.h"

namespace nibble::jinja {
namespace {

constexpr std::size_t kMaxTemplateBytes = std::size_t{1} << 20;

}  // namespace

Status Parser::block_end() {
  return expect(TokenKind::kBlockEnd, "\"%}\"");
}

Result<Statements> Parser::parse_all() {
  TRY_ASSIGN(Statements all, statements({}));
  if (peek().kind == TokenKind::kBlockBegin) {
    return error(fmt::format("{{% {} %}} closes nothing", peek(1).text));
  }
  return all;
}

// Stops before a tag of `end_tags`, or before any closing tag: the caller says what it wanted.
Result<Statements> Parser::statements(std::initializer_list<std::string_view> end_tags) {
  if (++nesting_ > kMaxNesting) return error("the template is nested too deeply");
  Statements out;
  while (peek().kind != TokenKind::kEnd) {
    const Token& token = peek();
    if (token.kind == TokenKind::kText) {
      out.push_back({.kind = StatementKind::kText, .text = token.text, .line = token.line});
      ++position_;
    } else if (token.kind == TokenKind::kPrintBegin) {
      ++position_;
      Statement print{.kind = StatementKind::kPrint, .line = token.line};
      TRY_ASSIGN(print.value, tuple(false));
      TRY(expect(TokenKind::kPrintEnd, "\"}}\""));
      out.push_back(std::move(print));
    } else {
      const std::string& word = peek(1).text;
      const bool closes = std::find(end_tags.begin(), end_tags.end(), word) != end_tags.end();
      if (closes || word.starts_with("end") || word == "else" || word == "elif") break;
      ++position_;
      TRY_ASSIGN(Statement statement, block());
      out.push_back(std::move(statement));
    }
  }
  --nesting_;
  return out;
}

Result<Statements> Parser::body_until(std::string_view end_name) {
  TRY_ASSIGN(Statements body, statements({end_name}));
  if (peek().kind != TokenKind::kBlockBegin || !at(TokenKind::kName, end_name, 1)) {
    if (peek().kind == TokenKind::kBlockBegin) ++position_;
    return unexpected(fmt::format("{{% {} %}}", end_name));
  }
  position_ += 2;
  // endblock-like tags may repeat a name.
  if (end_name == "endmacro" && peek().kind == TokenKind::kName) ++position_;
  TRY(block_end());
  return body;
}

Result<Statement> Parser::block() {
  using Handler = Result<Statement> (Parser::*)();
  static const std::vector<std::pair<std::string, Handler>> handlers{
      {"if", &Parser::if_statement},         {"for", &Parser::for_statement},
      {"set", &Parser::set_statement},       {"macro", &Parser::macro_statement},
      {"filter", &Parser::filter_statement}, {"with", &Parser::with_statement},
  };
  const int line = peek().line;
  TRY_ASSIGN(const std::string name, expect_any_name());
  Statement statement{.line = line};
  for (const auto& [word, handler] : handlers) {
    if (word != name) continue;
    TRY_ASSIGN(statement, (this->*handler)());
    statement.line = line;
    return statement;
  }
  if (name == "break" || name == "continue") {
    statement.kind = name == "break" ? StatementKind::kBreak : StatementKind::kContinue;
    TRY(block_end());
    return statement;
  }
  if (name == "generation") {
    statement.kind = StatementKind::kGroup;
    TRY(block_end());
    TRY_ASSIGN(statement.body, body_until("endgeneration"));
    return statement;
  }
  std::vector<std::string> names{"break", "continue", "generation", "raw"};
  for (const auto& entry : handlers) names.push_back(entry.first);
  return error(fmt::format("{{% {} %}} is not supported; the tags are {}", name, join_or(names)));
}

Result<Statement> Parser::if_statement() {
  Statement statement{.kind = StatementKind::kIf};
  TRY_ASSIGN(statement.value, tuple(false, false));
  TRY(block_end());
  TRY_ASSIGN(statement.body, statements({"elif", "else", "endif"}));
  if (peek().kind != TokenKind::kBlockBegin) return unexpected("{% endif %}");
  ++position_;
  if (skip_name("elif")) {
    if (++nesting_ > kMaxNesting) return error("the template is nested too deeply");
    TRY_ASSIGN(Statement nested, if_statement());
    --nesting_;
    statement.otherwise.push_back(std::move(nested));
    return statement;
  }
  if (skip_name("else")) {
    TRY(block_end());
    TRY_ASSIGN(statement.otherwise, body_until("endif"));
    return statement;
  }
  if (!skip_name("endif")) return unexpected("{% endif %}");
  TRY(block_end());
  return statement;
}

Result<std::vector<Target>> Parser::targets() {
  std::vector<Target> out;
  const bool parentheses = skip_operator("(");
  do {
    if (at_operator(")") || at_operator("=") || at_name("in")) break;  // a final comma
    Target target;
    TRY_ASSIGN(target.name, expect_any_name());
    if (skip_operator(".")) {
      TRY_ASSIGN(target.attribute, expect_any_name());
    }
    out.push_back(std::move(target));
  } while (skip_operator(","));
  if (parentheses) TRY(expect_operator(")"));
  if (out.empty()) return unexpected("a name");
  return out;
}

Result<Statement> Parser::for_statement() {
  Statement statement{.kind = StatementKind::kFor};
  TRY_ASSIGN(statement.targets, targets());
  if (!skip_name("in")) return unexpected("\"in\"");
  TRY_ASSIGN(statement.value, tuple(false, false));
  if (skip_name("if")) {
    TRY_ASSIGN(statement.condition, expression());
  }
  if (at_name("recursive")) return error("recursive loops are not supported");
  TRY(block_end());
  TRY_ASSIGN(statement.body, statements({"else", "endfor"}));
  if (peek().kind == TokenKind::kBlockBegin && at(TokenKind::kName, "else", 1)) {
    position_ += 2;
    TRY(block_end());
    TRY_ASSIGN(statement.otherwise, body_until("endfor"));
    return statement;
  }
  if (peek().kind != TokenKind::kBlockBegin || !at(TokenKind::kName, "endfor", 1))
    return unexpected("{% endfor %}");
  position_ += 2;
  TRY(block_end());
  return statement;
}

Result<Statement> Parser::set_statement() {
  Statement statement{.kind = StatementKind::kSet};
  TRY_ASSIGN(statement.targets, targets());
  if (skip_operator("=")) {
    TRY_ASSIGN(statement.value, tuple(false));
    TRY(block_end());
    return statement;
  }
  statement.kind = StatementKind::kSetBlock;
  if (statement.targets.size() != 1) return unexpected("\"=\"");
  // Filters apply to an empty base here; the renderer puts the body in its place.
  statement.value = std::make_unique<Expr>();
  while (at_operator("|")) {
    TRY_ASSIGN(statement.value, filter(std::move(statement.value)));
  }
  TRY(block_end());
  TRY_ASSIGN(statement.body, body_until("endset"));
  return statement;
}

Result<Statement> Parser::macro_statement() {
  Statement statement{.kind = StatementKind::kMacro};
  TRY_ASSIGN(statement.text, expect_any_name());
  TRY(expect_operator("("));
  while (!skip_operator(")")) {
    TRY_ASSIGN(std::string name, expect_any_name());
    ExprPtr otherwise;
    if (skip_operator("=")) {
      TRY_ASSIGN(otherwise, expression());
    }
    statement.parameters.emplace_back(std::move(name), std::move(otherwise));
    if (!at_operator(")")) TRY(expect_operator(","));
  }
  TRY(block_end());
  TRY_ASSIGN(statement.body, body_until("endmacro"));
  return statement;
}

Result<Statement> Parser::filter_statement() {
  Statement statement{.kind = StatementKind::kFilterBlock};
  TRY_ASSIGN(statement.value, named_filter(std::make_unique<Expr>()));
  while (at_operator("|")) {
    TRY_ASSIGN(statement.value, filter(std::move(statement.value)));
  }
  TRY(block_end());
  TRY_ASSIGN(statement.body, body_until("endfilter"));
  return statement;
}

Result<Statement> Parser::with_statement() {
  Statement statement{.kind = StatementKind::kScope};
  while (peek().kind == TokenKind::kName) {
    TRY_ASSIGN(std::string name, expect_any_name());
    TRY(expect_operator("="));
    TRY_ASSIGN(ExprPtr value, expression());
    statement.parameters.emplace_back(std::move(name), std::move(value));
    if (!skip_operator(",")) break;
  }
  TRY(block_end());
  TRY_ASSIGN(statement.body, body_until("endwith"));
  return statement;
}

Result<Statements> parse_template(std::string_view source) {
  if (source.size() > kMaxTemplateBytes) {
    return bad_data(fmt::format("a template of {} bytes is larger than the limit of {}", source.size(),
                                kMaxTemplateBytes));
  }
  TRY_ASSIGN(std::vector<Token> tokens, tokenize_template(source));
  return Parser(std::move(tokens)).parse_all();
}

}  // namespace nibble::jinja
