// SPDX-License-Identifier: Apache-2.0
// json.dumps as transformers calls it for `tojson`: no ASCII escapes, ", " and ": " between, optional
// indentation.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "text/jinja/value.h"

namespace nibble::jinja {
namespace {

constexpr int kMaxDepth = 200;

std::string json_string_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
        } else {
          out += c;
        }
    }
  }
  return out + '"';
}

class Writer {
 public:
  Writer(int indent, bool sort_keys) : indent_(indent), sort_keys_(sort_keys) {}

  Status write(const Value& value, int depth) {
    if (depth > kMaxDepth) return bad_data("tojson: values are nested too deeply");
    if (const List* list = value.as_list()) return write_list(*list, depth);
    if (const Dict* dict = value.as_dict()) return write_dict(*dict, depth);
    TRY_ASSIGN(const std::string text, scalar(value));
    out_ += text;
    return {};
  }

  std::string take() { return std::move(out_); }

 private:
  static Result<std::string> scalar(const Value& value) {
    if (value.is_none()) return std::string("null");
    if (const bool* flag = value.as_bool()) return std::string(*flag ? "true" : "false");
    if (const std::string* text = value.as_string()) return json_string_text(*text);
    if (const double* number = value.as_float()) {
      if (std::isnan(*number)) return std::string("NaN");
      if (std::isinf(*number)) return std::string(*number < 0 ? "-Infinity" : "Infinity");
    }
    if (value.as_int() != nullptr || value.as_float() != nullptr) return to_repr(value);
    return bad_data(fmt::format("tojson: a {} is no JSON value", value.type_name()));
  }

  void break_line(int depth) {
    if (indent_ >= 0) out_ += "\n" + std::string(static_cast<std::size_t>(indent_ * depth), ' ');
  }
  void separate() { out_ += indent_ >= 0 ? "," : ", "; }

  Status write_list(const List& list, int depth) {
    if (list.items.empty()) return out_ += "[]", Status();
    out_ += '[';
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) separate();
      break_line(depth + 1);
      TRY(write(list.items[i], depth + 1));
    }
    break_line(depth);
    out_ += ']';
    return {};
  }

  Status write_dict(const Dict& dict, int depth) {
    if (dict.pairs.empty()) return out_ += "{}", Status();
    Pairs pairs = dict.pairs;
    if (sort_keys_) {
      std::stable_sort(pairs.begin(), pairs.end(),
                       [](const auto& a, const auto& b) { return to_text(a.first) < to_text(b.first); });
    }
    out_ += '{';
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      if (i > 0) separate();
      break_line(depth + 1);
      TRY_ASSIGN(const std::string key, scalar(pairs[i].first));
      const char* quote = pairs[i].first.as_string() != nullptr ? "" : "\"";
      out_.append(quote).append(key).append(quote);
      out_ += ": ";
      TRY(write(pairs[i].second, depth + 1));
    }
    break_line(depth);
    out_ += '}';
    return {};
  }

  int indent_;
  bool sort_keys_;
  std::string out_;
};

}  // namespace

Result<std::string> to_json(const Value& value, int indent, bool sort_keys) {
  Writer writer(indent, sort_keys);
  TRY(writer.write(value, 0));
  return writer.take();
}

}  // namespace nibble::jinja
