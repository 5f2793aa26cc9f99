// SPDX-License-Identifier: Apache-2.0
// JSON as nibble reads it: UTF-8, bounded depth, duplicate keys refused where the format forbids them.
// Objects keep their order. Include nlohmann/json.hpp through this header; headers include base/json_fwd.h
// instead.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"

namespace nibble {

using Json = nlohmann::ordered_json;

struct JsonLimits {
  int max_depth = 64;
  bool allow_duplicate_keys = false;
};

// Errors are kBadData with line and column.
Result<Json> parse_json(std::string_view text, const JsonLimits& limits = {});
Result<Json> read_json_file(const std::filesystem::path& path, const JsonLimits& limits = {});

// The beginning of a value as text, for messages.
std::string json_excerpt(const Json& value);

// Typed look-ups: the error names the key, the type wanted and the type found. `*_or` gives the default when
// the key is absent or null.
Result<std::string> json_string(const Json& object, std::string_view key);
Result<std::int64_t> json_int(const Json& object, std::string_view key);
Result<double> json_number(const Json& object, std::string_view key);
Result<bool> json_bool(const Json& object, std::string_view key);
Result<std::string> json_string_or(const Json& object, std::string_view key, std::string_view otherwise);
Result<std::int64_t> json_int_or(const Json& object, std::string_view key, std::int64_t otherwise);
Result<double> json_number_or(const Json& object, std::string_view key, double otherwise);
Result<bool> json_bool_or(const Json& object, std::string_view key, bool otherwise);

}  // namespace nibble
