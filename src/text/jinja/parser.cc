// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "text/jinja/builtins.h"

namespace nibble::jinja {
namespace {

constexpr std::array<std::string_view, 6> kComparisons{"==", "!=", "<", ">", "<=", ">="};

Expr binary(std::string name, ExprPtr left, ExprPtr right, int line) {
  Expr expr{.kind = ExprKind::kBinary, .name = std::move(name), .line = line};
  expr.args.push_back(std::move(left));
  expr.args.push_back(std::move(right));
  return expr;
}

Expr with_base(ExprKind kind, ExprPtr base, int line) {
  Expr expr{.kind = kind, .line = line};
  expr.args.push_back(std::move(base));
  return expr;
}

std::string described(const Token& token) {
  switch (token.kind) {
    case TokenKind::kText:
      return "text";
    case TokenKind::kPrintEnd:
      return "\"}}\"";
    case TokenKind::kBlockEnd:
      return "\"%}\"";
    case TokenKind::kEnd:
      return "the end of the template";
    default:
      return "\"" + token.text + "\"";
  }
}

}  // namespace

bool Parser::skip_operator(std::string_view text) {
  return at_operator(text) && (++position_, true);
}
bool Parser::skip_name(std::string_view text) {
  return at_name(text) && (++position_, true);
}

Error Parser::error(std::string what) const {
  return bad_data(std::move(what)).add_context(fmt::format("line {}", peek().line));
}

Error Parser::unexpected(std::string_view wanted) const {
  return error(fmt::format("expected {}, found {}", wanted, described(peek())));
}

Status Parser::expect_operator(std::string_view text) {
  if (!skip_operator(text)) return unexpected(fmt::format("\"{}\"", text));
  return {};
}

Status Parser::expect(TokenKind kind, std::string_view what) {
  if (peek().kind != kind) return unexpected(what);
  ++position_;
  return {};
}

Result<std::string> Parser::expect_any_name() {
  if (peek().kind != TokenKind::kName) return unexpected("a name");
  return tokens_[position_++].text;
}

Result<ExprPtr> Parser::made(Expr expr) {
  for (const ExprPtr& arg : expr.args) {
    if (arg) expr.depth = std::max(expr.depth, arg->depth + 1);
  }
  for (const auto& [name, value] : expr.named) expr.depth = std::max(expr.depth, value->depth + 1);
  if (expr.depth > kMaxTreeDepth) return error("an expression is too long");
  return std::make_unique<Expr>(std::move(expr));
}

Result<ExprPtr> Parser::expression(bool with_condition) {
  if (++nesting_ > kMaxNesting) return error("the template is nested too deeply");
  TRY_ASSIGN(ExprPtr value, disjunction());
  while (with_condition && at_name("if")) {
    const int line = tokens_[position_++].line;
    Expr expr = with_base(ExprKind::kCondition, std::move(value), line);
    TRY_ASSIGN(ExprPtr condition, disjunction());
    expr.args.push_back(std::move(condition));
    ExprPtr otherwise;
    if (skip_name("else")) {
      TRY_ASSIGN(otherwise, expression());
    }
    expr.args.push_back(std::move(otherwise));
    TRY_ASSIGN(value, made(std::move(expr)));
  }
  --nesting_;
  return value;
}

Result<ExprPtr> Parser::disjunction() {
  TRY_ASSIGN(ExprPtr left, conjunction());
  while (at_name("or")) {
    const int line = tokens_[position_++].line;
    TRY_ASSIGN(ExprPtr right, conjunction());
    TRY_ASSIGN(left, made(binary("or", std::move(left), std::move(right), line)));
  }
  return left;
}

Result<ExprPtr> Parser::conjunction() {
  TRY_ASSIGN(ExprPtr left, negation());
  while (at_name("and")) {
    const int line = tokens_[position_++].line;
    TRY_ASSIGN(ExprPtr right, negation());
    TRY_ASSIGN(left, made(binary("and", std::move(left), std::move(right), line)));
  }
  return left;
}

Result<ExprPtr> Parser::negation() {
  int count = 0;
  const int line = peek().line;
  while (skip_name("not")) ++count;
  if (count > kMaxNesting) return error("the template is nested too deeply");
  TRY_ASSIGN(ExprPtr value, comparison());
  for (int i = 0; i < count; ++i) {
    Expr expr = with_base(ExprKind::kUnary, std::move(value), line);
    expr.name = "not";
    TRY_ASSIGN(value, made(std::move(expr)));
  }
  return value;
}

Result<ExprPtr> Parser::comparison() {
  const int line = peek().line;
  TRY_ASSIGN(ExprPtr first, sum());
  Expr expr = with_base(ExprKind::kCompare, std::move(first), line);
  while (true) {
    std::string op;
    const bool symbol =
        peek().kind == TokenKind::kOperator &&
        std::find(kComparisons.begin(), kComparisons.end(), peek().text) != kComparisons.end();
    if (symbol) {
      op = tokens_[position_++].text;
    } else if (skip_name("in")) {
      op = "in";
    } else if (at_name("not") && at(TokenKind::kName, "in", 1)) {
      position_ += 2;
      op = "not in";
    } else {
      break;
    }
    TRY_ASSIGN(ExprPtr right, sum());
    expr.ops.push_back(std::move(op));
    expr.args.push_back(std::move(right));
  }
  if (expr.ops.empty()) return std::move(expr.args[0]);
  return made(std::move(expr));
}

Result<ExprPtr> Parser::chain(Rule next, std::initializer_list<std::string_view> operators) {
  TRY_ASSIGN(ExprPtr left, (this->*next)());
  while (peek().kind == TokenKind::kOperator &&
         std::find(operators.begin(), operators.end(), peek().text) != operators.end()) {
    const Token& token = tokens_[position_++];
    TRY_ASSIGN(ExprPtr right, (this->*next)());
    TRY_ASSIGN(left, made(binary(token.text, std::move(left), std::move(right), token.line)));
  }
  return left;
}

Result<ExprPtr> Parser::sum() {
  return chain(&Parser::concatenation, {"+", "-"});
}
Result<ExprPtr> Parser::product() {
  return chain(&Parser::power, {"*", "/", "//", "%"});
}

Result<ExprPtr> Parser::concatenation() {
  const int line = peek().line;
  TRY_ASSIGN(ExprPtr first, product());
  if (!at_operator("~")) return first;
  Expr expr = with_base(ExprKind::kConcat, std::move(first), line);
  while (skip_operator("~")) {
    TRY_ASSIGN(ExprPtr next, product());
    expr.args.push_back(std::move(next));
  }
  return made(std::move(expr));
}

Result<ExprPtr> Parser::power() {
  TRY_ASSIGN(ExprPtr left, unary());
  while (at_operator("**")) {
    const int line = tokens_[position_++].line;
    TRY_ASSIGN(ExprPtr right, unary());
    TRY_ASSIGN(left, made(binary("**", std::move(left), std::move(right), line)));
  }
  return left;
}

Result<ExprPtr> Parser::unary(bool with_filter) {
  ExprPtr node;
  if (at_operator("-") || at_operator("+")) {
    if (++nesting_ > kMaxNesting) return error("the template is nested too deeply");
    const Token& token = tokens_[position_++];
    TRY_ASSIGN(ExprPtr operand, unary(false));
    Expr expr = with_base(ExprKind::kUnary, std::move(operand), token.line);
    expr.name = token.text;
    TRY_ASSIGN(node, made(std::move(expr)));
    --nesting_;
  } else {
    TRY_ASSIGN(node, primary());
  }
  TRY_ASSIGN(node, postfix(std::move(node)));
  if (!with_filter) return node;
  return filters_and_tests(std::move(node));
}

Result<ExprPtr> Parser::primary() {
  const Token& token = peek();
  Expr expr{.kind = ExprKind::kConstant, .line = token.line};
  switch (token.kind) {
    case TokenKind::kName:
      ++position_;
      if (token.text == "true" || token.text == "True") {
        expr.constant = true;
      } else if (token.text == "false" || token.text == "False") {
        expr.constant = false;
      } else if (token.text != "none" && token.text != "None") {
        expr.kind = ExprKind::kName;
        expr.name = token.text;
      }
      return made(std::move(expr));
    case TokenKind::kString: {
      std::string text;
      while (peek().kind == TokenKind::kString) text += tokens_[position_++].text;
      expr.constant = std::move(text);
      return made(std::move(expr));
    }
    case TokenKind::kInteger:
      ++position_;
      expr.constant = token.integer;
      return made(std::move(expr));
    case TokenKind::kFloat:
      ++position_;
      expr.constant = token.real;
      return made(std::move(expr));
    default:
      break;
  }
  if (at_operator("[")) return list_literal();
  if (at_operator("{")) return dict_literal();
  if (!skip_operator("(")) return unexpected("an expression");
  TRY_ASSIGN(ExprPtr inner, tuple(true));
  TRY(expect_operator(")"));
  return inner;
}

Result<ExprPtr> Parser::tuple(bool parentheses, bool with_condition) {
  Expr expr{.kind = ExprKind::kTuple, .line = peek().line};
  bool comma = false;
  while (true) {
    const bool end =
        peek().kind == TokenKind::kPrintEnd || peek().kind == TokenKind::kBlockEnd || at_operator(")");
    if (end) break;
    TRY_ASSIGN(ExprPtr item, expression(with_condition));
    expr.args.push_back(std::move(item));
    if (!skip_operator(",")) break;
    comma = true;
  }
  if (!comma && !expr.args.empty()) return std::move(expr.args[0]);
  if (!comma && !parentheses) return unexpected("an expression");
  return made(std::move(expr));
}

Result<ExprPtr> Parser::list_literal() {
  Expr expr{.kind = ExprKind::kList, .line = peek().line};
  TRY(expect_operator("["));
  while (!at_operator("]")) {
    if (!expr.args.empty()) TRY(expect_operator(","));
    if (at_operator("]")) break;
    TRY_ASSIGN(ExprPtr item, expression());
    expr.args.push_back(std::move(item));
  }
  TRY(expect_operator("]"));
  return made(std::move(expr));
}

Result<ExprPtr> Parser::dict_literal() {
  Expr expr{.kind = ExprKind::kDict, .line = peek().line};
  TRY(expect_operator("{"));
  while (!at_operator("}")) {
    if (!expr.args.empty()) TRY(expect_operator(","));
    if (at_operator("}")) break;
    TRY_ASSIGN(ExprPtr key, expression());
    TRY(expect_operator(":"));
    TRY_ASSIGN(ExprPtr value, expression());
    expr.args.push_back(std::move(key));
    expr.args.push_back(std::move(value));
  }
  TRY(expect_operator("}"));
  return made(std::move(expr));
}

Result<ExprPtr> Parser::postfix(ExprPtr base) {
  while (true) {
    if (at_operator(".") || at_operator("[")) {
      TRY_ASSIGN(base, subscript(std::move(base)));
    } else if (at_operator("(")) {
      Expr call = with_base(ExprKind::kCall, std::move(base), peek().line);
      TRY(call_arguments(call));
      TRY_ASSIGN(base, made(std::move(call)));
    } else {
      return base;
    }
  }
}

Result<ExprPtr> Parser::filters_and_tests(ExprPtr base) {
  while (true) {
    if (at_operator("|")) {
      TRY_ASSIGN(base, filter(std::move(base)));
    } else if (at_name("is")) {
      TRY_ASSIGN(base, test(std::move(base)));
    } else if (at_operator("(")) {
      Expr call = with_base(ExprKind::kCall, std::move(base), peek().line);
      TRY(call_arguments(call));
      TRY_ASSIGN(base, made(std::move(call)));
    } else {
      return base;
    }
  }
}

Result<ExprPtr> Parser::subscript(ExprPtr base) {
  const int line = peek().line;
  if (skip_operator(".")) {
    if (peek().kind == TokenKind::kName) {
      Expr expr = with_base(ExprKind::kAttribute, std::move(base), line);
      expr.name = tokens_[position_++].text;
      return made(std::move(expr));
    }
    if (peek().kind != TokenKind::kInteger) return unexpected("a name or number");
    Expr expr = with_base(ExprKind::kItem, std::move(base), line);
    expr.args.push_back(std::make_unique<Expr>(Expr{.constant = tokens_[position_++].integer, .line = line}));
    return made(std::move(expr));
  }
  TRY(expect_operator("["));
  Expr expr = with_base(ExprKind::kSlice, std::move(base), line);
  int colons = 0;
  ExprPtr parts[3];
  while (!at_operator("]")) {
    if (skip_operator(":")) {
      if (++colons > 2) return unexpected("\"]\"");
    } else {
      if (parts[colons]) return unexpected("\"]\"");
      TRY_ASSIGN(parts[colons], expression());
    }
  }
  TRY(expect_operator("]"));
  if (colons == 0) {
    if (!parts[0]) return error("an index is missing between [ and ]");
    expr.kind = ExprKind::kItem;
    expr.args.push_back(std::move(parts[0]));
  } else {
    for (ExprPtr& part : parts) expr.args.push_back(std::move(part));
  }
  return made(std::move(expr));
}

Status Parser::call_arguments(Expr& call) {
  TRY(expect_operator("("));
  while (!skip_operator(")")) {
    if (at_operator("*") || at_operator("**")) return error("calls with * or ** arguments are not supported");
    if (peek().kind == TokenKind::kName && at(TokenKind::kOperator, "=", 1)) {
      std::string name = peek().text;
      position_ += 2;
      TRY_ASSIGN(ExprPtr value, expression());
      call.named.emplace_back(std::move(name), std::move(value));
    } else {
      if (!call.named.empty()) return error("an argument without a name follows one with a name");
      TRY_ASSIGN(ExprPtr value, expression());
      call.args.push_back(std::move(value));
    }
    if (!at_operator(")")) TRY(expect_operator(","));
  }
  return {};
}

Result<ExprPtr> Parser::filter(ExprPtr base) {
  TRY(expect_operator("|"));
  return named_filter(std::move(base));
}

Result<ExprPtr> Parser::named_filter(ExprPtr base) {
  Expr expr = with_base(ExprKind::kFilter, std::move(base), peek().line);
  TRY_ASSIGN(expr.name, expect_any_name());
  TRY(check_filter_name(expr.name).at(fmt::format("line {}", expr.line)));
  if (at_operator("(")) TRY(call_arguments(expr));
  return made(std::move(expr));
}

Result<ExprPtr> Parser::test(ExprPtr base) {
  Expr expr = with_base(ExprKind::kTest, std::move(base), peek().line);
  ++position_;  // is
  expr.negated = skip_name("not");
  TRY_ASSIGN(expr.name, expect_any_name());
  TRY(check_test_name(expr.name).at(fmt::format("line {}", expr.line)));
  const Token& next = peek();
  const bool literal = next.kind == TokenKind::kString || next.kind == TokenKind::kInteger ||
                       next.kind == TokenKind::kFloat || at_operator("[") || at_operator("{");
  const bool name = next.kind == TokenKind::kName && next.text != "else" && next.text != "or" &&
                    next.text != "and" && next.text != "is" && next.text != "if" && next.text != "not" &&
                    next.text != "in";
  if (at_operator("(")) {
    TRY(call_arguments(expr));
  } else if (literal || name) {
    // One argument may stand without parentheses: `x is divisibleby 3`.
    TRY_ASSIGN(ExprPtr argument, primary());
    TRY_ASSIGN(argument, postfix(std::move(argument)));
    expr.args.push_back(std::move(argument));
  }
  return made(std::move(expr));
}

}  // namespace nibble::jinja
