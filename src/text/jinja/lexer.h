// SPDX-License-Identifier: Apache-2.0
// Cuts a template into text and tokens. Whitespace control as transformers sets it up: trim_blocks,
// lstrip_blocks,
// "-" and "+" signs, one final newline dropped.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nibble::jinja {

enum class TokenKind {
  kText,
  kPrintBegin,
  kPrintEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::string text{};  // text, name, operator, or the string without quotes and escapes
  std::int64_t integer = 0;
  double real = 0;
  int line = 1;
};

Result<std::vector<Token>> tokenize_template(std::string_view source);

}  // namespace nibble::jinja
