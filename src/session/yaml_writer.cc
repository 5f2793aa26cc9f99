// SPDX-License-Identifier: Apache-2.0
// PyYAML's emitter for plain data (yaml.dump with default_flow_style=None, width=88, sort_keys=False).
#include <fmt/format.h>

#include "session/yaml.h"

namespace nibble {
namespace {

constexpr std::size_t kWidth = 88;
constexpr int kIndent = 2;

bool all_scalars(const RecipeValue& value) {
  if (const RecipeValue::List* list = value.if_list()) {
    for (const RecipeValue& item : *list) {
      if (!item.is_scalar()) return false;
    }
  }
  if (const RecipeValue::Map* map = value.if_map()) {
    for (const auto& [key, item] : *map) {
      if (!item.is_scalar()) return false;
    }
  }
  return true;
}

bool is_break_or_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

struct ScalarForms {
  bool block_plain = true;
  bool flow_plain = true;
  bool single_quoted = true;
};

// Which forms can hold the text (the rules of PyYAML's analyze_scalar; texts with line breaks or control
// characters always go into double quotes).
ScalarForms allowed_forms(const std::string& text) {
  if (text.empty()) return {false, false, true};
  bool block = true;
  bool flow = true;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool next_space = i + 1 >= text.size() || is_break_or_space(text[i + 1]);
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return {false, false, false};
    if (i == 0) {
      const bool indicator = std::string_view("#,[]{}&*!|>'\"%@`").find(c) != std::string_view::npos;
      if (indicator || (c == '-' && next_space)) block = flow = false;
      if (c == '?' || c == ':') flow = false;
      if ((c == '?' || c == ':') && next_space) block = false;
      continue;
    }
    if (std::string_view(",?[]{}:").find(c) != std::string_view::npos) flow = false;
    if (c == ':' && next_space) block = false;
    if (c == '#' && is_break_or_space(text[i - 1])) block = flow = false;
  }
  if (text.starts_with("---") || text.starts_with("...")) block = flow = false;
  if (text.front() == ' ' || text.back() == ' ') block = flow = false;
  return {block, flow, true};
}

class Writer {
 public:
  std::string take(const RecipeValue& value) {
    node(value, -kIndent, false);
    if (column_ > 0) line_break();
    return std::move(out_);
  }

 private:
  void put(std::string_view text) {
    out_ += text;
    column_ += text.size();
  }
  void line_break() {
    out_ += '\n';
    column_ = 0;
  }
  void indent_to(int indent) {
    line_break();
    put(std::string(static_cast<std::size_t>(std::max(indent, 0)), ' '));
  }

  // Puts `text`, breaking the line at a single space once it has become too long; `indent` is that of the
  // continuation.
  void put_folded(const std::string& text, int indent) {
    for (std::size_t begin = 0; begin < text.size();) {
      std::size_t space = text.find(' ', begin);
      const bool inner = space != std::string::npos && space > 0 && space + 1 < text.size() &&
                         text[space + 1] != ' ' && text[space - 1] != ' ';
      if (space == std::string::npos) space = text.size();
      put(std::string_view(text).substr(begin, space - begin));
      if (space == text.size()) break;
      if (inner && column_ > kWidth) {
        indent_to(indent);
      } else {
        put(" ");
      }
      begin = space + 1;
    }
  }

  void double_quoted(const std::string& text) {
    put("\"");
    for (const char c : text) {
      if (c == '"' || c == '\\') {
        put(std::string("\\") + c);
      } else if (c == '\n') {
        put("\\n");
      } else if (c == '\t') {
        put("\\t");
      } else if (c == '\r') {
        put("\\r");
      } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
        put(fmt::format("\\x{:02X}", static_cast<unsigned>(static_cast<unsigned char>(c))));
      } else {
        put(std::string_view(&c, 1));
      }
    }
    put("\"");
  }

  void text_scalar(const std::string& text, int indent, bool in_flow) {
    const ScalarForms forms = allowed_forms(text);
    if ((in_flow ? forms.flow_plain : forms.block_plain) && !resolves_to_other_type(text)) {
      put_folded(text, indent);
    } else if (forms.single_quoted) {
      std::string quoted;
      for (const char c : text) quoted += c == '\'' ? std::string("''") : std::string(1, c);
      put("'");
      put_folded(quoted, indent);
      put("'");
    } else {
      double_quoted(text);
    }
  }

  void scalar(const RecipeValue& value, int indent, bool in_flow) {
    if (const std::string* text = value.if_text()) {
      text_scalar(*text, indent, in_flow);
    } else {
      put(value.to_text());
    }
  }

  void flow(const RecipeValue& value, int indent) {
    const bool is_list = value.if_list() != nullptr;
    const int inner = indent + kIndent;
    put(is_list ? "[" : "{");
    bool first = true;
    const auto separate = [&] {
      if (!first) put(",");
      if (column_ > kWidth) {
        indent_to(inner);
      } else if (!first) {
        put(" ");
      }
      first = false;
    };
    if (is_list) {
      for (const RecipeValue& item : *value.if_list()) {
        separate();
        scalar(item, inner + kIndent, true);
      }
    } else {
      for (const auto& [key, item] : *value.if_map()) {
        separate();
        text_scalar(key, inner, true);
        put(": ");
        scalar(item, inner + kIndent, true);
      }
    }
    put(is_list ? "]" : "}");
  }

  // `indent` is the indent of the collection that holds the node; `after_dash` says that the cursor stands
  // behind
  // "- ", where a nested block starts on the same line.
  void node(const RecipeValue& value, int indent, bool after_dash) {
    if (value.is_scalar()) {
      scalar(value, indent + kIndent, false);
    } else if (all_scalars(value)) {
      flow(value, indent);
    } else if (const RecipeValue::Map* map = value.if_map()) {
      block_map(*map, indent + kIndent, after_dash);
    } else {
      block_list(*value.if_list(), indent + kIndent, after_dash);
    }
  }

  void block_map(const RecipeValue::Map& map, int indent, bool on_line) {
    for (const auto& [key, item] : map) {
      if (!on_line && !out_.empty()) indent_to(indent);
      on_line = false;
      text_scalar(key, indent, false);
      put(":");
      if (item.is_scalar() || all_scalars(item)) {
        put(" ");
        node(item, indent, false);
      } else if (const RecipeValue::List* list = item.if_list()) {
        block_list(*list, indent, false);  // a list in a map is not indented further
      } else {
        node(item, indent, false);
      }
    }
  }

  void block_list(const RecipeValue::List& list, int indent, bool on_line) {
    for (const RecipeValue& item : list) {
      if (!on_line && !out_.empty()) indent_to(indent);
      on_line = false;
      put("- ");
      node(item, indent, true);
    }
  }

  std::string out_;
  std::size_t column_ = 0;
};

}  // namespace

std::string write_yaml(const RecipeValue& value) {
  return Writer().take(value);
}

}  // namespace nibble
