// SPDX-License-Identifier: Apache-2.0
// Runs a parsed template. Work, output and recursion are limited, so that a hostile template ends with an
// error.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"

namespace nibble::jinja {

struct Limits {
  std::int64_t steps = 4'000'000;                    // evaluated nodes and touched elements
  std::size_t output_bytes = std::size_t{16} << 20;  // also of any single string
  int depth = 500;                                   // nested evaluations
};

class Renderer {
 public:
  explicit Renderer(const Limits& limits = {}) : limits_(limits) {}
  ~Renderer();
  Renderer(const Renderer&) = delete;
  Renderer& operator=(const Renderer&) = delete;

  Result<std::string> render(const Statements& statements,
                             std::vector<std::pair<std::string, Value>> globals);

  // For built-ins.
  Status spend(std::int64_t steps);
  Status spend_on(const Value& value);  // by its size
  Status check_size(std::size_t bytes) const;
  Result<Value> call(const Value& callable, const Arguments& arguments);
  void adopt_namespace(const Value& value) { namespaces_.push_back(value); }

 private:
  struct Scope {
    Scope* parent = nullptr;
    std::vector<std::pair<std::string, Value>> names{};
    bool defines_macro = false;
  };
  enum class Flow { kNext, kBreak, kContinue };
  class Nested;  // counts the depth of recursion

  Result<Flow> run(const Statements& statements);
  Result<Flow> run(const Statement& statement);
  Result<Flow> run_for(const Statement& statement);
  Status run_set(const Statement& statement);
  Status run_captured(const Statement& statement);  // set block, filter block
  Status define_macro(const Statement& statement);
  Result<Value> call_macro(const Statement& macro, Scope* home, const Arguments& arguments);
  Status assign(const std::vector<Target>& targets, const Value& value);
  Status assign(const Target& target, const Value& value);
  Status write(const std::string& text);

  Result<Value> evaluate(const Expr& expr);
  Result<Value> evaluate_node(const Expr& expr);
  Result<Value> evaluate_binary(const Expr& expr);
  Result<Value> evaluate_compare(const Expr& expr);
  Result<Value> evaluate_slice(const Expr& expr);
  Result<Value> evaluate_dict(const Expr& expr);
  Result<std::vector<Value>> evaluate_all(const std::vector<ExprPtr>& exprs, std::size_t first = 0);
  Result<Arguments> evaluate_arguments(const Expr& expr);
  Value look_up(const std::string& name) const;
  void define(const std::string& name, Value value);

  void enter_scope(Scope* parent);
  void leave_scope(std::unique_ptr<Scope> outer);

  Limits limits_;
  std::int64_t steps_ = 0;
  int depth_ = 0;
  std::unique_ptr<Scope> scope_;  // innermost; its ancestors are kept by the callers of enter_scope
  std::vector<std::unique_ptr<Scope>> kept_;  // scopes that macros still refer to
  std::vector<Value> namespaces_;
  std::string* out_ = nullptr;
};

}  // namespace nibble::jinja
