// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string_view>

#include "base/json.h"

namespace nibble {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr JsonLimits kHeaderLimits{.max_depth = 8, .allow_duplicate_keys = false};

const std::string& known_dtypes() {
  static const std::string names = [] {
    std::string text;
    for (int i = 0; i <= static_cast<int>(DType::kBool); ++i) {
      text += (i == 0 ? "" : ", ") + std::string(safetensors_name(static_cast<DType>(i)));
    }
    return text;
  }();
  return names;
}

std::uint64_t little_endian_64(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 8; ++i) value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  return value;
}

Result<std::string_view> header_text(std::span<const std::byte> file) {
  if (file.size() < kLengthBytes) {
    return bad_data(fmt::format(
        "a safetensors file begins with 8 bytes of header length; this one has {} bytes", file.size()));
  }
  const std::uint64_t length = little_endian_64(file);
  if (length > kMaxSafetensorsHeader) {
    return bad_data(
        fmt::format("the header length is {}, at most {} bytes are allowed", length, kMaxSafetensorsHeader),
        "the file is damaged or no safetensors file");
  }
  if (length > file.size() - kLengthBytes) {
    return bad_data(fmt::format("the header length is {}, but only {} bytes follow it", length,
                                file.size() - kLengthBytes),
                    "the file is cut short; fetch it again");
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes, length);
  if (text.empty() || text.front() != '{') {
    return bad_data(fmt::format("the header must be a JSON object that begins with '{{', found {}",
                                text.empty() ? "no header" : fmt::format("{:?}", text.substr(0, 1))));
  }
  return text;
}

Status read_metadata(const Json& object, std::map<std::string, std::string>& metadata) {
  if (!object.is_object()) {
    return bad_data(fmt::format("__metadata__ must be an object of strings, found {}", json_excerpt(object)));
  }
  for (const auto& [key, value] : object.items()) {
    if (!value.is_string()) {
      return bad_data(
          fmt::format("__metadata__ \"{}\" must be a string, found {}", key, json_excerpt(value)));
    }
    metadata.emplace(key, value.get<std::string>());
  }
  return {};
}

Result<DType> read_dtype(const Json& object) {
  TRY_ASSIGN(const std::string name, json_string(object, "dtype"));
  const auto dtype = dtype_from_safetensors(name);
  if (!dtype) return bad_data(fmt::format("dtype \"{}\" is unknown; known are {}", name, known_dtypes()));
  return *dtype;
}

Result<Shape> read_shape(const Json& object) {
  const auto found = object.find("shape");
  if (found == object.end() || !found->is_array())
    return bad_data("\"shape\" must be a list of integers >= 0");
  Shape shape;
  for (const Json& extent : *found) {
    if (!extent.is_number_unsigned() ||
        extent.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max()) {
      return bad_data(
          fmt::format("\"shape\" must be a list of integers >= 0, found {}", json_excerpt(*found)));
    }
    shape.push_back(extent.get<std::int64_t>());
  }
  return shape;
}

// Bytes of a tensor; the running product is checked so that element_count() of an accepted shape cannot
// overflow.
Result<std::uint64_t> byte_count(const Shape& shape, DType dtype) {
  std::uint64_t bytes = dtype_bytes(dtype);
  for (const std::int64_t extent : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(extent), &bytes) ||
        bytes > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      return bad_data(fmt::format("the shape {} of {} does not fit into 63 bits of bytes", to_string(shape),
                                  safetensors_name(dtype)));
    }
  }
  return bytes;
}

Status read_offsets(const Json& object, SafetensorsEntry& entry) {
  const auto found = object.find("data_offsets");
  const bool valid = found != object.end() && found->is_array() && found->size() == 2 &&
                     (*found)[0].is_number_unsigned() && (*found)[1].is_number_unsigned();
  if (!valid) {
    return bad_data(fmt::format("\"data_offsets\" must be two integers >= 0, found {}",
                                found == object.end() ? "nothing" : json_excerpt(*found)));
  }
  entry.begin = (*found)[0].get<std::uint64_t>();
  entry.end = (*found)[1].get<std::uint64_t>();
  if (entry.end < entry.begin) {
    return bad_data(
        fmt::format("\"data_offsets\" end at {} before they begin at {}", entry.end, entry.begin));
  }
  return {};
}

Result<SafetensorsEntry> read_entry(std::string name, const Json& object) {
  if (!object.is_object()) {
    return bad_data(
        fmt::format("expected an object with dtype, shape and data_offsets, found {}", json_excerpt(object)));
  }
  SafetensorsEntry entry;
  entry.name = std::move(name);
  TRY_ASSIGN(entry.dtype, read_dtype(object));
  TRY_ASSIGN(entry.shape, read_shape(object));
  TRY(read_offsets(object, entry));
  TRY_ASSIGN(const std::uint64_t bytes, byte_count(entry.shape, entry.dtype));
  if (bytes != entry.end - entry.begin) {
    return bad_data(fmt::format("{} of shape {} needs {} bytes, but \"data_offsets\" [{}, {}] hold {}",
                                safetensors_name(entry.dtype), to_string(entry.shape), bytes, entry.begin,
                                entry.end, entry.end - entry.begin));
  }
  return entry;
}

// The entries must tile the data exactly.
Status check_layout(std::vector<SafetensorsEntry>& entries, std::uint64_t data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  std::uint64_t expected = 0;
  const SafetensorsEntry* previous = nullptr;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != expected) {
      const std::string neighbour =
          previous ? fmt::format("tensor {} ends", previous->name) : "the data begin";
      return Error(bad_data(fmt::format(
                       "its data begin at {}, but {} at {}: {}", entry.begin, neighbour, expected,
                       entry.begin < expected ? "the tensors overlap"
                                              : "bytes that belong to no tensor are not allowed")))
          .add_context(fmt::format("tensor {}", entry.name));
    }
    if (entry.end > data_bytes) {
      return Error(bad_data(fmt::format("its data end at {}, but the file holds only {} bytes of data",
                                        entry.end, data_bytes),
                            "the file is cut short; fetch it again"))
          .add_context(fmt::format("tensor {}", entry.name));
    }
    expected = entry.end;
    previous = &entry;
  }
  if (expected != data_bytes) {
    return bad_data(
        fmt::format("the tensors end at {}, but the file holds {} bytes of data", expected, data_bytes));
  }
  return {};
}

}  // namespace

Result<SafetensorsHeader> parse_safetensors_header(std::span<const std::byte> file) {
  TRY_ASSIGN(const std::string_view text, header_text(file));
  TRY_ASSIGN(const Json json, parse_json(text, kHeaderLimits).at("header"));
  SafetensorsHeader header;
  header.data_begin = kLengthBytes + text.size();
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") {
      TRY(read_metadata(value, header.metadata));
      continue;
    }
    TRY_ASSIGN(SafetensorsEntry entry, read_entry(name, value).at(fmt::format("tensor {}", name)));
    header.entries.push_back(std::move(entry));
  }
  TRY(check_layout(header.entries, file.size() - header.data_begin));
  return header;
}

Tensor tensor_from_file(const std::shared_ptr<const MappedFile>& file, std::uint64_t offset, DType dtype,
                        const Shape& shape) {
  const std::byte* data = file->bytes().data() + offset;
  if (reinterpret_cast<std::uintptr_t>(data) % dtype_bytes(dtype) == 0) return {dtype, shape, data, file};
  Tensor copy(dtype, shape);
  if (copy.byte_size() > 0) std::memcpy(copy.mutable_bytes().data(), data, copy.byte_size());
  return copy;
}

}  // namespace nibble
