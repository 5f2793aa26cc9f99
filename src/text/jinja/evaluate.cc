// SPDX-License-Identifier: Apache-2.0
// The value of an expression.
#include <fmt/format.h>

#include "text/jinja/builtins.h"
#include "text/jinja/renderer.h"

namespace nibble::jinja {

Result<Value> Renderer::evaluate(const Expr& expr) {
  if (depth_ + expr.depth > limits_.depth) return bad_data("the template is nested too deeply");
  TRY(spend(1));
  ++depth_;
  Result<Value> value = evaluate_node(expr);
  --depth_;
  return value;
}

Result<std::vector<Value>> Renderer::evaluate_all(const std::vector<ExprPtr>& exprs, std::size_t first) {
  std::vector<Value> values;
  for (std::size_t i = first; i < exprs.size(); ++i) {
    TRY_ASSIGN(values.emplace_back(), evaluate(*exprs[i]));
  }
  return values;
}

Result<Arguments> Renderer::evaluate_arguments(const Expr& expr) {
  Arguments arguments;
  TRY_ASSIGN(arguments.positional, evaluate_all(expr.args, 1));
  for (const auto& [name, value] : expr.named) {
    arguments.named.emplace_back(name, Value());
    TRY_ASSIGN(arguments.named.back().second, evaluate(*value));
  }
  return arguments;
}

Result<Value> Renderer::evaluate_node(const Expr& expr) {
  switch (expr.kind) {
    case ExprKind::kConstant:
      return expr.constant;
    case ExprKind::kName:
      return look_up(expr.name);
    case ExprKind::kList:
    case ExprKind::kTuple: {
      TRY_ASSIGN(std::vector<Value> items, evaluate_all(expr.args));
      return Value(List{.items = std::move(items), .is_tuple = expr.kind == ExprKind::kTuple});
    }
    case ExprKind::kDict:
      return evaluate_dict(expr);
    case ExprKind::kAttribute: {
      TRY_ASSIGN(const Value base, evaluate(*expr.args[0]));
      return get_attribute(base, expr.name);
    }
    case ExprKind::kItem: {
      TRY_ASSIGN(const Value base, evaluate(*expr.args[0]));
      TRY_ASSIGN(const Value key, evaluate(*expr.args[1]));
      if (base.as_string() != nullptr) TRY(spend_on(base));
      return get_item(base, key);
    }
    case ExprKind::kSlice:
      return evaluate_slice(expr);
    case ExprKind::kCall: {
      TRY_ASSIGN(const Value callable, evaluate(*expr.args[0]));
      TRY_ASSIGN(const Arguments arguments, evaluate_arguments(expr));
      return call(callable, arguments);
    }
    case ExprKind::kFilter: {
      TRY_ASSIGN(const Value base, evaluate(*expr.args[0]));
      TRY_ASSIGN(const Arguments arguments, evaluate_arguments(expr));
      return apply_filter(*this, expr.name, base, arguments);
    }
    case ExprKind::kTest: {
      TRY_ASSIGN(const Value base, evaluate(*expr.args[0]));
      TRY_ASSIGN(const Arguments arguments, evaluate_arguments(expr));
      TRY_ASSIGN(const bool result, apply_test(expr.name, base, arguments));
      return Value(result != expr.negated);
    }
    case ExprKind::kUnary: {
      TRY_ASSIGN(const Value operand, evaluate(*expr.args[0]));
      if (expr.name == "not") return Value(!truthy(operand));
      return arithmetic(*this, expr.name, Value(0), operand);
    }
    case ExprKind::kBinary:
      return evaluate_binary(expr);
    case ExprKind::kCompare:
      return evaluate_compare(expr);
    case ExprKind::kConcat: {
      std::string text;
      for (const ExprPtr& arg : expr.args) {
        TRY_ASSIGN(const Value part, evaluate(*arg));
        text += to_text(part);
        TRY(check_size(text.size()));
      }
      return Value(std::move(text));
    }
    case ExprKind::kCondition: {
      TRY_ASSIGN(const Value condition, evaluate(*expr.args[1]));
      if (truthy(condition)) return evaluate(*expr.args[0]);
      if (expr.args[2]) return evaluate(*expr.args[2]);
      return Value::undefined("the else of an inline if");
    }
  }
  return Value();
}

// `and` and `or` give one of their operands, as in Python.
Result<Value> Renderer::evaluate_binary(const Expr& expr) {
  TRY_ASSIGN(Value left, evaluate(*expr.args[0]));
  if (expr.name == "and" && !truthy(left)) return left;
  if (expr.name == "or" && truthy(left)) return left;
  TRY_ASSIGN(Value right, evaluate(*expr.args[1]));
  if (expr.name == "and" || expr.name == "or") return right;
  return arithmetic(*this, expr.name, left, right);
}

// a < b < c is (a < b) and (b < c).
Result<Value> Renderer::evaluate_compare(const Expr& expr) {
  TRY_ASSIGN(Value left, evaluate(*expr.args[0]));
  for (std::size_t i = 0; i < expr.ops.size(); ++i) {
    TRY_ASSIGN(Value right, evaluate(*expr.args[i + 1]));
    TRY(spend_on(left));
    TRY(spend_on(right));
    const std::string& op = expr.ops[i];
    bool holds = false;
    if (op == "==" || op == "!=") {
      holds = equal(left, right) == (op == "==");
    } else if (op == "in" || op == "not in") {
      TRY_ASSIGN(const bool inside, contains(right, left));
      holds = inside == (op == "in");
    } else {
      TRY_ASSIGN(const int order, compare(left, right));
      holds = op == "<" ? order < 0 : op == ">" ? order > 0 : op == "<=" ? order <= 0 : order >= 0;
    }
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Result<Value> Renderer::evaluate_slice(const Expr& expr) {
  TRY_ASSIGN(const Value base, evaluate(*expr.args[0]));
  TRY(spend_on(base));
  Value bounds[3];
  for (std::size_t i = 0; i < 3; ++i) {
    if (!expr.args[i + 1]) continue;
    TRY_ASSIGN(bounds[i], evaluate(*expr.args[i + 1]));
  }
  return get_slice(base, bounds[0], bounds[1], bounds[2]);
}

Result<Value> Renderer::evaluate_dict(const Expr& expr) {
  Dict dict;
  for (std::size_t i = 0; i < expr.args.size(); i += 2) {
    TRY_ASSIGN(const Value key, evaluate(*expr.args[i]));
    TRY_ASSIGN(Value value, evaluate(*expr.args[i + 1]));
    set_key(dict, key, std::move(value));
  }
  return Value(std::move(dict));
}

}  // namespace nibble::jinja
