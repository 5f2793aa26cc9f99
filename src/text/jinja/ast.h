// SPDX-License-Identifier: Apache-2.0
// The parsed template. One struct for expressions and one for statements: the renderer is a table over their
// kinds.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace nibble::jinja {

enum class ExprKind {
  kConstant,   // constant
  kName,       // name
  kList,       // args
  kTuple,      // args
  kDict,       // args: key, value, key, value ...
  kAttribute,  // args[0] . name
  kItem,       // args[0] [ args[1] ]
  kSlice,      // args[0] [ args[1] : args[2] : args[3] ], each of which may be null
  kCall,       // args[0] ( args[1...], named... )
  kFilter,     // args[0] | name ( args[1...], named... )
  kTest,       // args[0] is name ( args[1...] ); `negated`
  kUnary,      // name: "not", "-", "+"
  kBinary,     // name: "and", "or", "+", "-", "*", "/", "//", "%", "**"
  kCompare,    // args[0] ops[0] args[1] ops[1] args[2] ...
  kConcat,     // args ~ args ~ ...
  kCondition,  // args[0] if args[1] else args[2]; args[2] may be null
};

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Expr {
  ExprKind kind = ExprKind::kConstant;
  Value constant{};
  std::string name{};
  std::vector<ExprPtr> args{};
  std::vector<std::pair<std::string, ExprPtr>> named{};
  std::vector<std::string> ops{};
  bool negated = false;
  int line = 0;
  int depth = 1;  // of this tree; bounded, so that recursion over it is
};

enum class StatementKind {
  kText,      // text
  kPrint,     // value
  kIf,        // value, body, otherwise
  kFor,       // targets in value (if condition): body, else: otherwise
  kSet,       // targets = value
  kSetBlock,  // targets[0] = rendered body, passed through `filters`
  kMacro,     // name(parameters): body
  kFilterBlock,
  kScope,  // with targets = values: body
  kGroup,  // body: generation blocks
  kBreak,
  kContinue,
};

struct Target {
  std::string name{};
  std::string attribute{};  // of a namespace; empty for a plain name
};

struct Statement {
  StatementKind kind = StatementKind::kText;
  std::string text{};  // text, or the name of a macro
  ExprPtr value{};
  ExprPtr condition{};
  std::vector<Target> targets{};
  std::vector<std::pair<std::string, ExprPtr>> parameters{};  // of a macro or `with`; the default may be null
  std::vector<Statement> body{};
  std::vector<Statement> otherwise{};
  int line = 0;
};

using Statements = std::vector<Statement>;

Result<Statements> parse_template(std::string_view source);

}  // namespace nibble::jinja
