// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/protobuf.h"

#include <fmt/format.h>

namespace nibble::text {
namespace {

constexpr std::uint32_t kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;

Error wrong_wire_type(const ProtoField& field) {
  return bad_data(
      fmt::format("the field {} of the protocol buffer has the wire type {}", field.number, field.wire_type));
}

}  // namespace

Result<std::string_view> ProtoField::as_bytes() const {
  return wire_type == kBytes ? Result<std::string_view>(bytes) : wrong_wire_type(*this);
}
Result<std::int64_t> ProtoField::as_int() const {
  return wire_type == kVarint ? Result<std::int64_t>(static_cast<std::int64_t>(value))
                              : wrong_wire_type(*this);
}
Result<bool> ProtoField::as_bool() const {
  return wire_type == kVarint ? Result<bool>(value != 0) : wrong_wire_type(*this);
}
Result<float> ProtoField::as_float() const {
  return wire_type == kFixed32 ? Result<float>(std::bit_cast<float>(static_cast<std::uint32_t>(value)))
                               : wrong_wire_type(*this);
}

Result<std::optional<ProtoField>> ProtoReader::next() {
  if (rest_.empty()) return std::optional<ProtoField>();
  TRY_ASSIGN(const std::uint64_t tag, varint());
  ProtoField field;
  field.wire_type = static_cast<std::uint32_t>(tag & 7);
  if (tag >> 3 == 0 || tag >> 3 > 0x1FFFFFFF) {
    return bad_data(fmt::format("invalid field number {} in the protocol buffer", tag >> 3));
  }
  field.number = static_cast<std::uint32_t>(tag >> 3);
  if (field.wire_type == kVarint) {
    TRY_ASSIGN(field.value, varint());
  } else if (field.wire_type == kFixed64) {
    TRY_ASSIGN(field.value, fixed(8));
  } else if (field.wire_type == kFixed32) {
    TRY_ASSIGN(field.value, fixed(4));
  } else if (field.wire_type == kBytes) {
    TRY_ASSIGN(const std::uint64_t length, varint());
    if (length > rest_.size()) {
      return bad_data(fmt::format("the protocol buffer ends inside the field {}: {} bytes wanted, {} left",
                                  field.number, length, rest_.size()));
    }
    field.bytes = rest_.substr(0, length);
    rest_.remove_prefix(length);
  } else {
    return wrong_wire_type(field);
  }
  return std::optional<ProtoField>(field);
}

Result<std::uint64_t> ProtoReader::varint() {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 10 && i < rest_.size(); ++i) {
    const auto byte = static_cast<unsigned char>(rest_[i]);
    if (i == 9 && byte > 1) break;
    value |= static_cast<std::uint64_t>(byte & 0x7F) << (7 * i);
    if (byte < 0x80) {
      rest_.remove_prefix(i + 1);
      return value;
    }
  }
  return bad_data("a number of the protocol buffer is cut off or longer than 64 bits");
}

Result<std::uint64_t> ProtoReader::fixed(std::size_t bytes) {
  if (rest_.size() < bytes) return bad_data("the protocol buffer ends inside a number");
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes; ++i) {
    value |= static_cast<std::uint64_t>(static_cast<unsigned char>(rest_[i])) << (8 * i);
  }
  rest_.remove_prefix(bytes);
  return value;
}

}  // namespace nibble::text
