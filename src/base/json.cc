// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "base/file.h"

namespace nibble {
namespace {

// Line and column (from 1) of a byte position.
std::string place_of(std::string_view text, std::size_t position) {
  position = std::min(position, text.size());
  const std::string_view before = text.substr(0, position);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t start = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
  return fmt::format("line {}, column {}", line, position - start + 1);
}

// Looks for what the DOM parser accepts and nibble does not: deep nesting and duplicate keys.
class Guard final : public nlohmann::json_sax<Json> {
 public:
  Guard(std::string_view text, const JsonLimits& limits) : text_(text), limits_(limits) {}
  std::optional<Error> error;

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return enter(); }
  bool start_array(std::size_t) override { return enter(); }
  bool end_array() override { return leave(); }
  bool end_object() override { return leave(); }
  bool key(string_t& name) override {
    if (limits_.allow_duplicate_keys || keys_.back().insert(name).second) return true;
    error = bad_data(fmt::format("the JSON key \"{}\" stands twice in one object", name));
    return false;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& e) override {
    std::string reason = e.what();
    if (const auto cut = reason.rfind("; "); cut != std::string::npos) reason = reason.substr(cut + 2);
    if (const auto cut = reason.find("syntax error"); cut != std::string::npos) reason = reason.substr(cut);
    error = bad_data(
        fmt::format("invalid JSON at {}: {}", place_of(text_, position == 0 ? 0 : position - 1), reason));
    return false;
  }

 private:
  bool enter() {
    keys_.emplace_back();
    if (static_cast<int>(keys_.size()) <= limits_.max_depth) return true;
    error = bad_data(fmt::format("JSON nested deeper than {} levels", limits_.max_depth));
    return false;
  }
  bool leave() {
    keys_.pop_back();
    return true;
  }

  std::string_view text_;
  JsonLimits limits_;
  std::vector<std::set<std::string>> keys_;
};

Result<const Json*> member(const Json& object, std::string_view key) {
  if (!object.is_object()) return bad_data(fmt::format("expected a JSON object with the key \"{}\"", key));
  const auto found = object.find(std::string(key));
  if (found == object.end() || found->is_null())
    return bad_data(fmt::format("the key \"{}\" is missing", key));
  return &*found;
}

Error wrong_type(std::string_view key, std::string_view wanted, const Json& found) {
  return bad_data(fmt::format("\"{}\" must be {}, found {}: {:.60}", key, wanted, found.type_name(),
                              found.dump(-1, ' ', false, Json::error_handler_t::replace)));
}

bool absent(const Json& object, std::string_view key) {
  if (!object.is_object()) return true;
  const auto found = object.find(std::string(key));
  return found == object.end() || found->is_null();
}

}  // namespace

Result<Json> parse_json(std::string_view text, const JsonLimits& limits) {
  Guard guard(text, limits);
  if (!Json::sax_parse(text, &guard)) {
    return guard.error ? *std::move(guard.error) : bad_data("invalid JSON");
  }
  try {
    return Json::parse(text);
  } catch (const nlohmann::json::exception& e) {
    return bad_data(fmt::format("invalid JSON: {}", e.what()));
  }
}

Result<Json> read_json_file(const std::filesystem::path& path, const JsonLimits& limits) {
  TRY_ASSIGN(const std::string text, read_text_file(path));
  return parse_json(text, limits).at(fmt::format("file {}", path.string()));
}

std::string json_excerpt(const Json& value) {
  return fmt::format("{:.80}", value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

Result<std::string> json_string(const Json& object, std::string_view key) {
  TRY_ASSIGN(const Json* value, member(object, key));
  if (!value->is_string()) return wrong_type(key, "a string", *value);
  return value->get<std::string>();
}

Result<std::int64_t> json_int(const Json& object, std::string_view key) {
  TRY_ASSIGN(const Json* value, member(object, key));
  if (value->is_number_unsigned() && value->get<std::uint64_t>() > INT64_MAX) {
    return wrong_type(key, "an integer of 64 bits", *value);
  }
  if (value->is_number_integer()) return value->get<std::int64_t>();
  if (value->is_number_float()) {
    const double number = value->get<double>();
    if (std::nearbyint(number) == number && std::abs(number) < 0x1p53)
      return static_cast<std::int64_t>(number);
  }
  return wrong_type(key, "an integer", *value);
}

Result<double> json_number(const Json& object, std::string_view key) {
  TRY_ASSIGN(const Json* value, member(object, key));
  if (!value->is_number()) return wrong_type(key, "a number", *value);
  return value->get<double>();
}

Result<bool> json_bool(const Json& object, std::string_view key) {
  TRY_ASSIGN(const Json* value, member(object, key));
  if (!value->is_boolean()) return wrong_type(key, "true or false", *value);
  return value->get<bool>();
}

Result<std::string> json_string_or(const Json& object, std::string_view key, std::string_view otherwise) {
  return absent(object, key) ? Result<std::string>(std::string(otherwise)) : json_string(object, key);
}
Result<std::int64_t> json_int_or(const Json& object, std::string_view key, std::int64_t otherwise) {
  return absent(object, key) ? Result<std::int64_t>(otherwise) : json_int(object, key);
}
Result<double> json_number_or(const Json& object, std::string_view key, double otherwise) {
  return absent(object, key) ? Result<double>(otherwise) : json_number(object, key);
}
Result<bool> json_bool_or(const Json& object, std::string_view key, bool otherwise) {
  return absent(object, key) ? Result<bool>(otherwise) : json_bool(object, key);
}

}  // namespace nibble
