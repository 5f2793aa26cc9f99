// SPDX-License-Identifier: Apache-2.0
// Expressions by recursive descent with the grammar and precedence of Jinja2; statements on top
// (statements.cc).
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace nibble::jinja {

// Deeper nesting than any real template has; it bounds the recursion of parser, renderer and destructors.
inline constexpr int kMaxNesting = 100;
inline constexpr int kMaxTreeDepth = 200;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Result<Statements> parse_all();

 private:
  // Tokens.
  const Token& peek(std::size_t ahead = 0) const {
    return tokens_[std::min(position_ + ahead, tokens_.size() - 1)];
  }
  bool at(TokenKind kind, std::string_view text, std::size_t ahead = 0) const {
    return peek(ahead).kind == kind && peek(ahead).text == text;
  }
  bool at_operator(std::string_view text) const { return at(TokenKind::kOperator, text); }
  bool at_name(std::string_view text) const { return at(TokenKind::kName, text); }
  bool skip_operator(std::string_view text);
  bool skip_name(std::string_view text);
  Status expect_operator(std::string_view text);
  Status expect(TokenKind kind, std::string_view what);
  Result<std::string> expect_any_name();
  Error error(std::string what) const;
  Error unexpected(std::string_view wanted) const;

  // Expressions, loosest binding first.
  Result<ExprPtr> expression(bool with_condition = true);
  Result<ExprPtr> disjunction();
  Result<ExprPtr> conjunction();
  Result<ExprPtr> negation();
  Result<ExprPtr> comparison();
  Result<ExprPtr> sum();
  Result<ExprPtr> concatenation();
  Result<ExprPtr> product();
  Result<ExprPtr> power();
  Result<ExprPtr> unary(bool with_filter = true);
  Result<ExprPtr> primary();
  Result<ExprPtr> postfix(ExprPtr base);
  Result<ExprPtr> filters_and_tests(ExprPtr base);
  Result<ExprPtr> subscript(ExprPtr base);
  Result<ExprPtr> filter(ExprPtr base);        // | name(...)
  Result<ExprPtr> named_filter(ExprPtr base);  // name(...)
  Result<ExprPtr> test(ExprPtr base);
  Result<ExprPtr> list_literal();
  Result<ExprPtr> dict_literal();
  // a, b, c: one expression without a comma is itself.
  Result<ExprPtr> tuple(bool parentheses, bool with_condition = true);
  Status call_arguments(Expr& call);
  using Rule = Result<ExprPtr> (Parser::*)();
  // left (op right)*, left-associative.
  Result<ExprPtr> chain(Rule next, std::initializer_list<std::string_view> operators);
  Result<ExprPtr> made(Expr expr);  // sets depth and checks it

  // Statements.
  Result<Statements> statements(std::initializer_list<std::string_view> end_tags);
  Result<Statement> block();
  Result<Statement> if_statement();
  Result<Statement> for_statement();
  Result<Statement> set_statement();
  Result<Statement> macro_statement();
  Result<Statement> filter_statement();
  Result<Statement> with_statement();
  Result<std::vector<Target>> targets();
  // Body up to {% end_name %}, which is consumed.
  Result<Statements> body_until(std::string_view end_name);
  Status block_end();

  std::vector<Token> tokens_;
  std::size_t position_ = 0;
  int nesting_ = 0;
};

}  // namespace nibble::jinja
