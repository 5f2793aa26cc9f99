// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/renderer.h"

#include <fmt/format.h>

#include "text/jinja/builtins.h"

namespace nibble::jinja {
namespace {

std::string line_text(int line) {
  return fmt::format("line {}", line);
}

Value loop_variable(const std::vector<Value>& items, std::size_t index) {
  const auto count = static_cast<std::int64_t>(items.size());
  const auto i = static_cast<std::int64_t>(index);
  Namespace names;
  names.names = {
      {"index", i + 1},
      {"index0", i},
      {"revindex", count - i},
      {"revindex0", count - i - 1},
      {"first", i == 0},
      {"last", i + 1 == count},
      {"length", count},
      {"depth", 1},
      {"depth0", 0},
      {"previtem", index > 0 ? items[index - 1] : Value::undefined("loop.previtem")},
      {"nextitem", index + 1 < items.size() ? items[index + 1] : Value::undefined("loop.nextitem")},
      {"cycle", Value::callable({"cycle", [i](Renderer&, const Arguments& arguments) -> Result<Value> {
                                   if (arguments.positional.empty())
                                     return bad_data("loop.cycle() needs values");
                                   const auto n = static_cast<std::int64_t>(arguments.positional.size());
                                   return arguments.positional[static_cast<std::size_t>(i % n)];
                                 }})}};
  return Value::name_space(std::move(names));
}

}  // namespace

class Renderer::Nested {
 public:
  explicit Nested(int& depth) : depth_(depth) { ++depth_; }
  ~Nested() { --depth_; }
  Nested(const Nested&) = delete;
  Nested& operator=(const Nested&) = delete;

 private:
  int& depth_;
};

Result<std::string> Renderer::render(const Statements& statements,
                                     std::vector<std::pair<std::string, Value>> globals) {
  Scope root;
  root.names = std::move(globals);
  scope_ = std::make_unique<Scope>(Scope{.parent = &root, .names = {}});
  std::string out;
  out_ = &out;
  TRY_ASSIGN([[maybe_unused]] const Flow flow, run(statements));
  kept_.clear();
  scope_.reset();
  return out;
}

// A namespace may hold itself; emptying it breaks the ring.
Renderer::~Renderer() {
  for (const Value& value : namespaces_) value.as_namespace()->names.clear();
}

Status Renderer::spend(std::int64_t steps) {
  if (steps > limits_.steps - steps_) {
    return bad_data(fmt::format("the template took more than {} steps", limits_.steps),
                    "does a loop never end?");
  }
  steps_ += steps;
  return {};
}

Status Renderer::spend_on(const Value& value) {
  if (const std::string* text = value.as_string()) return spend(static_cast<std::int64_t>(text->size() / 16));
  if (const List* list = value.as_list()) return spend(static_cast<std::int64_t>(list->items.size()));
  if (const Dict* dict = value.as_dict()) return spend(static_cast<std::int64_t>(dict->pairs.size()));
  return {};
}

Status Renderer::check_size(std::size_t bytes) const {
  if (bytes <= limits_.output_bytes) return {};
  return bad_data(fmt::format("the template makes a text of more than {} bytes", limits_.output_bytes));
}

Status Renderer::write(const std::string& text) {
  TRY(check_size(out_->size() + text.size()));
  *out_ += text;
  return {};
}

void Renderer::enter_scope(Scope* parent) {
  scope_ = std::make_unique<Scope>(Scope{.parent = parent, .names = {}});
}

void Renderer::leave_scope(std::unique_ptr<Scope> outer) {
  if (scope_->defines_macro) kept_.push_back(std::move(scope_));
  scope_ = std::move(outer);
}

Value Renderer::look_up(const std::string& name) const {
  for (const Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent) {
    for (const auto& [key, value] : scope->names) {
      if (key == name) return value;
    }
  }
  return Value::undefined(name);
}

void Renderer::define(const std::string& name, Value value) {
  for (auto& [key, old] : scope_->names) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  scope_->names.emplace_back(name, std::move(value));
}

Result<Renderer::Flow> Renderer::run(const Statements& statements) {
  const Nested nested(depth_);
  for (const Statement& statement : statements) {
    auto flow = run(statement).at(line_text(statement.line));
    if (!flow.ok() || *flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Result<Renderer::Flow> Renderer::run(const Statement& statement) {
  TRY(spend(1));
  switch (statement.kind) {
    case StatementKind::kText:
      TRY(write(statement.text));
      return Flow::kNext;
    case StatementKind::kPrint: {
      TRY_ASSIGN(const Value value, evaluate(*statement.value));
      TRY(write(to_text(value)));
      return Flow::kNext;
    }
    case StatementKind::kIf: {
      TRY_ASSIGN(const Value condition, evaluate(*statement.value));
      return run(truthy(condition) ? statement.body : statement.otherwise);
    }
    case StatementKind::kFor:
      return run_for(statement);
    case StatementKind::kSet:
      TRY(run_set(statement));
      return Flow::kNext;
    case StatementKind::kSetBlock:
    case StatementKind::kFilterBlock:
      TRY(run_captured(statement));
      return Flow::kNext;
    case StatementKind::kMacro:
      TRY(define_macro(statement));
      return Flow::kNext;
    case StatementKind::kScope: {
      std::vector<Value> values;
      for (const auto& [name, value] : statement.parameters) {
        TRY_ASSIGN(values.emplace_back(), evaluate(*value));
      }
      std::unique_ptr<Scope> outer = std::move(scope_);
      enter_scope(outer.get());
      for (std::size_t i = 0; i < values.size(); ++i)
        define(statement.parameters[i].first, std::move(values[i]));
      auto flow = run(statement.body);
      leave_scope(std::move(outer));
      return flow;
    }
    case StatementKind::kGroup:
      return run(statement.body);
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

// The body of every round has a scope of its own: what it sets is gone in the next.
Result<Renderer::Flow> Renderer::run_for(const Statement& statement) {
  TRY_ASSIGN(const Value sequence, evaluate(*statement.value));
  TRY_ASSIGN(std::vector<Value> items, elements(sequence));
  TRY(spend(static_cast<std::int64_t>(items.size())));
  std::unique_ptr<Scope> outer = std::move(scope_);
  Result<Flow> flow = Flow::kNext;
  std::vector<Value> chosen;
  for (Value& item : items) {
    if (!statement.condition) break;
    enter_scope(outer.get());
    Status assigned = assign(statement.targets, item);
    Result<Value> wanted =
        assigned.ok() ? evaluate(*statement.condition) : Result<Value>(std::move(assigned).error());
    leave_scope(nullptr);
    if (!wanted.ok()) {
      scope_ = std::move(outer);
      return std::move(wanted).error();
    }
    if (truthy(*wanted)) chosen.push_back(std::move(item));
  }
  if (statement.condition) items = std::move(chosen);
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (Status status = spend(5); !status.ok()) {  // a round costs more than a node
      flow = std::move(status).error();
      break;
    }
    enter_scope(outer.get());
    Status assigned = assign(statement.targets, items[i]);
    define("loop", loop_variable(items, i));
    flow = assigned.ok() ? run(statement.body) : Result<Flow>(std::move(assigned).error());
    leave_scope(nullptr);
    if (!flow.ok() || *flow == Flow::kBreak) break;
  }
  scope_ = std::move(outer);
  if (!flow.ok()) return flow;
  return items.empty() ? run(statement.otherwise) : Flow::kNext;
}

Status Renderer::assign(const Target& target, const Value& value) {
  if (target.attribute.empty()) return define(target.name, value), Status();
  const Value holder = look_up(target.name);
  Namespace* names = holder.as_namespace();
  if (names == nullptr || !names->open) {
    return bad_data(fmt::format("{} is a {}: only attributes of a namespace() can be set", target.name,
                                holder.type_name()));
  }
  for (auto& [key, old] : names->names) {
    if (key == target.attribute) return old = value, Status();
  }
  names->names.emplace_back(target.attribute, value);
  return {};
}

Status Renderer::assign(const std::vector<Target>& targets, const Value& value) {
  if (targets.size() == 1) return assign(targets[0], value);
  TRY_ASSIGN(const std::vector<Value> parts, elements(value));
  if (parts.size() != targets.size()) {
    return bad_data(fmt::format("{} values for {} names", parts.size(), targets.size()));
  }
  for (std::size_t i = 0; i < parts.size(); ++i) TRY(assign(targets[i], parts[i]));
  return {};
}

Status Renderer::run_set(const Statement& statement) {
  TRY_ASSIGN(const Value value, evaluate(*statement.value));
  return assign(statement.targets, value);
}

namespace {
// The constant at the bottom of a chain of filters is where the captured text goes.
struct Filters {
  std::vector<const Expr*> outermost_last;
  explicit Filters(const Expr* expr) {
    for (; expr->kind == ExprKind::kFilter; expr = expr->args[0].get())
      outermost_last.insert(outermost_last.begin(), expr);
  }
};
}  // namespace

Status Renderer::run_captured(const Statement& statement) {
  std::string text;
  std::string* outer_out = std::exchange(out_, &text);
  std::unique_ptr<Scope> outer = std::move(scope_);
  enter_scope(outer.get());
  const Result<Flow> flow = run(statement.body);
  leave_scope(std::move(outer));
  out_ = outer_out;
  if (!flow.ok()) return flow.error();
  Value value(std::move(text));
  for (const Expr* filter : Filters(statement.value.get()).outermost_last) {
    TRY_ASSIGN(const Arguments arguments, evaluate_arguments(*filter));
    TRY_ASSIGN(value, apply_filter(*this, filter->name, value, arguments));
  }
  if (statement.kind == StatementKind::kFilterBlock) return write(to_text(value));
  return assign(statement.targets, value);
}

Status Renderer::define_macro(const Statement& statement) {
  Scope* home = scope_.get();
  home->defines_macro = true;
  const Statement* macro = &statement;
  define(statement.text,
         Value::callable({statement.text, [macro, home](Renderer& renderer, const Arguments& arguments) {
                            return renderer.call_macro(*macro, home, arguments);
                          }}));
  return {};
}

Result<Value> Renderer::call_macro(const Statement& macro, Scope* home, const Arguments& arguments) {
  const Nested nested(depth_);
  if (depth_ > limits_.depth) return bad_data(fmt::format("macro {} calls itself too deeply", macro.text));
  if (arguments.positional.size() > macro.parameters.size()) {
    return bad_data(fmt::format("macro {} takes {} argument(s), not {}", macro.text, macro.parameters.size(),
                                arguments.positional.size()));
  }
  std::unique_ptr<Scope> outer = std::move(scope_);
  enter_scope(home);
  std::string text;
  std::string* outer_out = std::exchange(out_, &text);
  Status status;
  for (std::size_t i = 0; i < macro.parameters.size() && status.ok(); ++i) {
    const auto& [name, otherwise] = macro.parameters[i];
    const Value* given = arguments.find(i, name);
    Result<Value> value = given != nullptr ? Result<Value>(*given)
                          : otherwise      ? evaluate(*otherwise)
                                           : Result<Value>(Value::undefined(name));
    if (value.ok())
      define(name, std::move(*value));
    else
      status = std::move(value).error();
  }
  if (status.ok()) {
    const Result<Flow> flow = run(macro.body);
    if (!flow.ok()) status = flow.error();
  }
  out_ = outer_out;
  leave_scope(std::move(outer));
  if (!status.ok()) return std::move(status).error();
  return Value(std::move(text));
}

Result<Value> Renderer::call(const Value& callable, const Arguments& arguments) {
  if (callable.is_undefined())
    return bad_data(fmt::format("{} is undefined", callable.undefined_name().name));
  if (callable.as_callable() == nullptr)
    return bad_data(fmt::format("a {} cannot be called", callable.type_name()));
  return callable.as_callable()->call(*this, arguments);
}

}  // namespace nibble::jinja
