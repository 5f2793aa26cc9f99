// SPDX-License-Identifier: Apache-2.0
// Typed look-ups in the metadata of a GGUF file.
#include <fmt/format.h>

#include <cstring>
#include <limits>
#include <optional>

#include "checkpoint/gguf.h"

namespace nibble {
namespace {

template <class T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

struct Number {
  bool is_integer = false;
  std::int64_t integer = 0;
  double real = 0;
};

Number integer_number(std::int64_t value) {
  return {true, value, static_cast<double>(value)};
}
Number real_number(double value) {
  return {false, 0, value};
}

// A number of `type` at `bytes`; nothing for strings, arrays, and u64 values beyond 63 bits.
std::optional<Number> read_number(GgufValueType type, const std::byte* bytes) {
  switch (type) {
    case GgufValueType::kU8:
    case GgufValueType::kBool:
      return integer_number(load<std::uint8_t>(bytes));
    case GgufValueType::kI8:
      return integer_number(load<std::int8_t>(bytes));
    case GgufValueType::kU16:
      return integer_number(load<std::uint16_t>(bytes));
    case GgufValueType::kI16:
      return integer_number(load<std::int16_t>(bytes));
    case GgufValueType::kU32:
      return integer_number(load<std::uint32_t>(bytes));
    case GgufValueType::kI32:
      return integer_number(load<std::int32_t>(bytes));
    case GgufValueType::kI64:
      return integer_number(load<std::int64_t>(bytes));
    case GgufValueType::kU64: {
      const auto value = load<std::uint64_t>(bytes);
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return std::nullopt;
      return integer_number(static_cast<std::int64_t>(value));
    }
    case GgufValueType::kF32:
      return real_number(static_cast<double>(load<float>(bytes)));
    case GgufValueType::kF64:
      return real_number(load<double>(bytes));
    case GgufValueType::kString:
    case GgufValueType::kArray:
      return std::nullopt;
  }
  return std::nullopt;
}

std::size_t number_bytes(GgufValueType type) {
  switch (type) {
    case GgufValueType::kU8:
    case GgufValueType::kI8:
    case GgufValueType::kBool:
      return 1;
    case GgufValueType::kU16:
    case GgufValueType::kI16:
      return 2;
    case GgufValueType::kU32:
    case GgufValueType::kI32:
    case GgufValueType::kF32:
      return 4;
    case GgufValueType::kU64:
    case GgufValueType::kI64:
    case GgufValueType::kF64:
      return 8;
    case GgufValueType::kString:
    case GgufValueType::kArray:
      return 0;
  }
  return 0;
}

std::string type_name(const GgufValue& value) {
  if (value.type != GgufValueType::kArray) return std::string(to_string(value.type));
  return fmt::format("array of {}", to_string(value.element));
}

Error missing(std::string_view key) {
  return bad_data(fmt::format("the metadata key {} is missing", key));
}

Error wrong_type(std::string_view key, std::string_view wanted, const GgufValue& found) {
  return bad_data(fmt::format("the metadata key {} must be {}, found {} {}", key, wanted, type_name(found),
                              GgufFile::shown(found, 4)));
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The strings of an array; their lengths were checked when the file was parsed.
std::vector<std::string> split_strings(const GgufValue& array, std::uint64_t most) {
  std::vector<std::string> strings;
  std::span<const std::byte> rest = array.bytes;
  for (std::uint64_t i = 0; i < std::min(most, array.count); ++i) {
    const auto length = load<std::uint64_t>(rest.data());
    strings.emplace_back(text_of(rest.subspan(8, length)));
    rest = rest.subspan(8 + length);
  }
  return strings;
}

bool is_numeric(GgufValueType type) {
  return number_bytes(type) > 0;
}

}  // namespace

Result<std::string> GgufFile::string(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return missing(key);
  if (value->type != GgufValueType::kString) return wrong_type(key, "a string", *value);
  return std::string(text_of(value->bytes));
}

Result<std::int64_t> GgufFile::integer(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return missing(key);
  const auto number =
      value->type == GgufValueType::kBool ? std::nullopt : read_number(value->type, value->bytes.data());
  if (!number || !number->is_integer) return wrong_type(key, "an integer", *value);
  return number->integer;
}

Result<double> GgufFile::number(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return missing(key);
  const auto number =
      value->type == GgufValueType::kBool ? std::nullopt : read_number(value->type, value->bytes.data());
  if (!number) return wrong_type(key, "a number", *value);
  return number->real;
}

Result<bool> GgufFile::boolean(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return missing(key);
  if (value->type != GgufValueType::kBool) return wrong_type(key, "a boolean", *value);
  return std::to_integer<int>(value->bytes[0]) != 0;
}

Result<std::vector<std::string>> GgufFile::strings(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return missing(key);
  if (value->type != GgufValueType::kArray || value->element != GgufValueType::kString) {
    return wrong_type(key, "an array of strings", *value);
  }
  return split_strings(*value, value->count);
}

Result<std::vector<std::int64_t>> GgufFile::integers(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return missing(key);
  if (value->type != GgufValueType::kArray || !is_numeric(value->element)) {
    return wrong_type(key, "an array of integers", *value);
  }
  std::vector<std::int64_t> numbers;
  for (std::uint64_t i = 0; i < value->count; ++i) {
    const auto number = read_number(value->element, value->bytes.data() + i * number_bytes(value->element));
    if (!number || !number->is_integer) return wrong_type(key, "an array of integers", *value);
    numbers.push_back(number->integer);
  }
  return numbers;
}

Result<std::vector<float>> GgufFile::floats(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return missing(key);
  if (value->type != GgufValueType::kArray || !is_numeric(value->element)) {
    return wrong_type(key, "an array of numbers", *value);
  }
  std::vector<float> numbers;
  for (std::uint64_t i = 0; i < value->count; ++i) {
    const auto number = read_number(value->element, value->bytes.data() + i * number_bytes(value->element));
    if (!number) return wrong_type(key, "an array of numbers", *value);
    numbers.push_back(static_cast<float>(number->real));
  }
  return numbers;
}

Result<std::string> GgufFile::string_or(std::string_view key, std::string_view otherwise) const {
  return has(key) ? string(key) : Result<std::string>(std::string(otherwise));
}
Result<std::int64_t> GgufFile::integer_or(std::string_view key, std::int64_t otherwise) const {
  return has(key) ? integer(key) : Result<std::int64_t>(otherwise);
}
Result<double> GgufFile::number_or(std::string_view key, double otherwise) const {
  return has(key) ? number(key) : Result<double>(otherwise);
}
Result<bool> GgufFile::boolean_or(std::string_view key, bool otherwise) const {
  return has(key) ? boolean(key) : Result<bool>(otherwise);
}

std::string GgufFile::shown(const GgufValue& value, std::size_t most) {
  const auto one = [](GgufValueType type, const std::byte* bytes) -> std::string {
    if (type == GgufValueType::kBool) return std::to_integer<int>(*bytes) != 0 ? "true" : "false";
    if (type == GgufValueType::kU64) return fmt::format("{}", load<std::uint64_t>(bytes));
    const Number number = read_number(type, bytes).value_or(Number{});
    if (type == GgufValueType::kF32) return fmt::format("{}", static_cast<float>(number.real));
    return number.is_integer ? fmt::format("{}", number.integer) : fmt::format("{}", number.real);
  };
  if (value.type == GgufValueType::kString) return fmt::format("{:?}", text_of(value.bytes));
  if (value.type != GgufValueType::kArray) return one(value.type, value.bytes.data());
  if (value.element == GgufValueType::kArray) return fmt::format("[{} arrays]", value.count);
  std::vector<std::string> parts;
  if (value.element == GgufValueType::kString) {
    for (const std::string& text : split_strings(value, most)) parts.push_back(fmt::format("{:?}", text));
  } else {
    const std::size_t bytes = number_bytes(value.element);
    for (std::uint64_t i = 0; i < std::min<std::uint64_t>(most, value.count); ++i) {
      parts.push_back(one(value.element, value.bytes.data() + i * bytes));
    }
  }
  const std::string more = value.count > parts.size() ? fmt::format(", ... {} in all", value.count) : "";
  return fmt::format("[{}{}]", fmt::join(parts, ", "), more);
}

}  // namespace nibble
